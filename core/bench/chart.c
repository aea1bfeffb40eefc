#include "core/bench/chart.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { WIDTH = 760, PANEL = 190, LEFT = 70, RIGHT = 20, TOP = 50, PLOT = 120, BINS = 120 };

static const char blue[] = "#1b6ca8", pale[] = "#8fb8de", gold[] = "#c9a227", grey[] = "#b5b5b5";

/* A plot of its own scales: x in 0..1 of its width, y in 0..top. */
struct panel {
    struct buf *out;
    double y0;  /* of the plot's lower edge */
    double top; /* value at its upper edge */
};

static double px(double x)
{
    return LEFT + x * (WIDTH - LEFT - RIGHT);
}

static double py(const struct panel *p, double y)
{
    return p->y0 - (p->top > 0 ? y / p->top : 0) * PLOT;
}

/* Text that may hold anything, as XML. */
static void add_escaped(struct buf *b, const char *s)
{
    for (; *s; s++) {
        if (*s == '<')
            buf_addstr(b, "&lt;");
        else if (*s == '>')
            buf_addstr(b, "&gt;");
        else if (*s == '&')
            buf_addstr(b, "&amp;");
        else if ((unsigned char)*s >= ' ')
            buf_addch(b, *s);
    }
}

static void add_text(struct buf *b, double x, double y, const char *anchor, const char *text)
{
    buf_addf(b, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", x, y, anchor);
    add_escaped(b, text);
    buf_addstr(b, "</text>\n");
}

/* A round number that is at least v: 1, 2 or 5 times a power of ten. */
static double round_up(double v)
{
    if (v <= 0)
        return 1;
    double base = pow(10, floor(log10(v)));
    double steps[] = {1, 2, 5, 10};
    for (size_t i = 0; i < ARRAY_LEN(steps); i++)
        if (v <= steps[i] * base * (1 + 1e-9))
            return steps[i] * base;
    return 10 * base;
}

static struct panel begin_panel(struct buf *out, uint32_t index, const char *title, double top)
{
    struct panel p = {out, TOP + index * PANEL + PLOT + 20, top};
    buf_addf(out, "<text x=\"%d\" y=\"%.1f\" font-weight=\"bold\">", LEFT, p.y0 - PLOT - 8);
    add_escaped(out, title);
    buf_addstr(out, "</text>\n");
    buf_addf(out, "<path d=\"M%d %.1fV%.1fH%d\" fill=\"none\" stroke=\"#444444\"/>\n", LEFT,
             p.y0 - PLOT, p.y0, WIDTH - RIGHT);
    return p;
}

static void add_y_axis(const struct panel *p)
{
    for (int i = 0; i <= 2; i++) {
        char label[32];
        double v = p->top * i / 2;
        snprintf(label, sizeof(label), "%g", v);
        add_text(p->out, LEFT - 6, py(p, v) + 4, "end", label);
        if (i > 0)
            buf_addf(p->out, "<path d=\"M%d %.1fH%d\" stroke=\"#dddddd\"/>\n", LEFT + 1, py(p, v),
                     WIDTH - RIGHT);
    }
}

/* ---- one run ---- */

/* The logarithmic scale that holds a histogram. */
struct scale {
    double low, high; /* log10 of microseconds */
};

static struct scale scale_of(const struct histogram *h)
{
    struct scale s = {floor(log10((double)u64_max(h->min_us, 1)) * 4) / 4,
                      ceil(log10((double)h->max_us + 1) * 4) / 4};
    if (s.high - s.low < 0.5)
        s.high = s.low + 0.5;
    return s;
}

static double scale_x(const struct scale *s, double us)
{
    double x = (log10(us < 1 ? 1 : us) - s->low) / (s->high - s->low);
    return x < 0 ? 0 : x > 1 ? 1 : x;
}

static void add_marker(const struct panel *p, double x, const char *label, double us, double drop)
{
    char text[64];
    snprintf(text, sizeof(text), "%s %.4g ms", label, us / 1e3);
    buf_addf(p->out, "<path d=\"M%.1f %.1fV%.1f\" stroke=\"%s\" stroke-dasharray=\"4 3\"/>\n",
             px(x), p->y0, p->y0 - PLOT, gold);
    add_text(p->out, px(x) + (x > 0.8 ? -4 : 4), p->y0 - PLOT + 10 + drop,
             x > 0.8 ? "end" : "start", text);
}

static void add_distribution(struct buf *out, uint32_t index, const char *title,
                             const struct histogram *h)
{
    double bins[BINS] = {0}, most = 0;
    struct scale s = scale_of(h);
    for (uint32_t i = 0; i < ARRAY_LEN(h->counts); i++) {
        uint64_t from, width;
        if (h->counts[i] == 0)
            continue;
        histogram_bucket(i, &from, &width);
        uint32_t bin = (uint32_t)(scale_x(&s, (double)from + (double)width / 2) * (BINS - 1));
        bins[bin] += 100.0 * (double)h->counts[i] / (double)h->n;
        most = fmax(most, bins[bin]);
    }
    struct panel p = begin_panel(out, index, title, round_up(most));
    add_y_axis(&p);
    for (uint32_t i = 0; i < BINS; i++)
        if (bins[i] > 0)
            buf_addf(out,
                     "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"%s\"/>\n",
                     px((double)i / BINS), py(&p, bins[i]), (double)(WIDTH - LEFT - RIGHT) / BINS,
                     p.y0 - py(&p, bins[i]), blue);
    for (int e = (int)ceil(s.low); e <= s.high + 1e-9; e++) {
        char label[32];
        snprintf(label, sizeof(label), "%g ms", pow(10, e - 3));
        add_text(out, px(scale_x(&s, pow(10, e))), p.y0 + 16, "middle", label);
    }
    double p50 = histogram_quantile(h, 0.5), p99 = histogram_quantile(h, 0.99);
    add_marker(&p, scale_x(&s, p50), "p50", p50, 0);
    add_marker(&p, scale_x(&s, p99), "p99", p99, 14);
}

/* ---- a sweep ---- */

struct series {
    const char *name, *colour;
    double (*value)(const struct measure *m);
};

static double tokens_per_s(const struct measure *m)
{
    return measure_per_s(m, m->output_tokens);
}

static double ttft_p50(const struct measure *m)
{
    return histogram_quantile(&m->ttft, 0.5) / 1e3;
}

static double ttft_p99(const struct measure *m)
{
    return histogram_quantile(&m->ttft, 0.99) / 1e3;
}

static double itl_p50(const struct measure *m)
{
    return histogram_quantile(&m->itl, 0.5) / 1e3;
}

static double itl_p99(const struct measure *m)
{
    return histogram_quantile(&m->itl, 0.99) / 1e3;
}

static double level_x(uint32_t i, uint32_t n)
{
    return ((double)i + 0.5) / n;
}

static void add_series(const struct panel *p, const struct series *s, const struct level *levels,
                       uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        buf_addf(p->out, "%s%.1f %.1f", i ? "L" : "<path d=\"M", px(level_x(i, n)),
                 py(p, s->value(levels[i].m)));
    buf_addf(p->out, "\" fill=\"none\" stroke=\"%s\" stroke-width=\"2\"/>\n", s->colour);
    for (uint32_t i = 0; i < n; i++)
        buf_addf(p->out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\"/>\n",
                 px(level_x(i, n)), py(p, s->value(levels[i].m)), s->colour);
}

static void add_sweep_panel(struct buf *out, uint32_t index, const char *title,
                            const struct series *series, uint32_t n_series,
                            const struct level *levels, uint32_t n)
{
    double most = 0;
    uint32_t knee = sweep_knee(levels, n);
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = 0; k < n_series; k++)
            most = fmax(most, series[k].value(levels[i].m));
    struct panel p = begin_panel(out, index, title, round_up(most));
    add_y_axis(&p);
    if (knee < n)
        buf_addf(out, "<path d=\"M%.1f %.1fV%.1f\" stroke=\"%s\" stroke-dasharray=\"4 3\"/>\n",
                 px(level_x(knee, n)), p.y0, p.y0 - PLOT, grey);
    for (uint32_t k = 0; k < n_series; k++) {
        add_series(&p, &series[k], levels, n);
        buf_addf(out, "<rect x=\"%u\" y=\"%.1f\" width=\"10\" height=\"10\" fill=\"%s\"/>\n",
                 400 + k * 120, p.y0 - PLOT - 17, series[k].colour);
        add_text(out, 415 + k * 120, p.y0 - PLOT - 8, "start", series[k].name);
    }
    for (uint32_t i = 0; i < n; i++) {
        char label[32];
        snprintf(label, sizeof(label), i == knee ? "%u (knee)" : "%u", levels[i].concurrency);
        add_text(out, px(level_x(i, n)), p.y0 + 16, "middle", label);
    }
}

void chart_svg(const struct report_head *h, const struct level *levels, uint32_t n, struct buf *out)
{
    static const struct series throughput[] = {{"output tokens", blue, tokens_per_s}};
    static const struct series ttft[] = {{"p50", blue, ttft_p50}, {"p99", pale, ttft_p99}};
    static const struct series itl[] = {{"p50", blue, itl_p50}, {"p99", pale, itl_p99}};
    char title[256];
    buf_addf(out,
             "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
             "font-family=\"sans-serif\" font-size=\"12\">\n"
             "<rect width=\"100%%\" height=\"100%%\" fill=\"#ffffff\"/>\n",
             WIDTH, TOP + 3 * PANEL);
    snprintf(title, sizeof(title), "%s, %s: %s", h->model, h->endpoint,
             n > 1 ? "over requests at once" : "share of requests (or gaps), %");
    buf_addstr(out, "<g font-size=\"14\">");
    add_text(out, 10, 24, "start", title);
    buf_addstr(out, "</g>\n");
    if (n > 1) {
        add_sweep_panel(out, 0, "Throughput, tokens per second", throughput, 1, levels, n);
        add_sweep_panel(out, 1, "Time to first token, ms", ttft, 2, levels, n);
        add_sweep_panel(out, 2, "Gap between tokens, ms", itl, 2, levels, n);
    } else if (n == 1) {
        add_distribution(out, 0, "Time to first token", &levels[0].m->ttft);
        add_distribution(out, 1, "Gap between tokens", &levels[0].m->itl);
        add_distribution(out, 2, "Whole answer", &levels[0].m->e2e);
    }
    buf_addstr(out, "</svg>\n");
}

/* ask.h - questions on a terminal. What is not answered (end of input) is the default. */
#pragma once
#include "core/util/base.h"

enum { ANSWER_MAX = 1024 };

/* "Path of the model [none]: "; out: the line without blanks around it, or the default. False: end of input
 * and there is no default (NULL). */
MUST_CHECK bool ask_text(const char *question, const char *standard, char out[ANSWER_MAX]);
/* "[Y/n]" */
bool ask_yes(const char *question, bool standard);

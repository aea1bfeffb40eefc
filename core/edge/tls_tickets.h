/* tls_tickets.h - the keys that session tickets are sealed with.
 *
 * A ticket is the session itself, sealed and kept by the client. Who gets hold of the key reads what was
 * recorded of TLS 1.2 sessions resumed with it, so a key seals for TICKET_KEY_S at most, opens tickets
 * for as long again, and is overwritten.
 *
 * Thread  any; a lock of rank LEAF around a copy. */
#pragma once
#include <openssl/ssl.h>

#include "core/util/base.h"

enum { TICKET_KEY_S = 2 * 3600 };

/* Makes the context seal by keys of its own, which live as long as it. False: out of memory. */
bool tls_tickets_attach(SSL_CTX *ctx);
/* Changes the keys before their time: those of before still open, those before them do not. False: there
 * is no randomness. */
bool tls_tickets_turn(SSL_CTX *ctx);

/*
 * threads.c - how threads of the core are started.
 */
#define _GNU_SOURCE
#include <signal.h>

#include "internal.h"

bool ps_thread_start(pthread_t *thread, void *(*run)(void *), void *argument)
{
    sigset_t blocked, before;

    sigfillset(&blocked);
    sigdelset(&blocked, SIGBUS);
    sigdelset(&blocked, SIGSEGV);
    sigdelset(&blocked, SIGFPE);
    sigdelset(&blocked, SIGILL);
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    bool started = pthread_create(thread, NULL, run, argument) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return started;
}

/*
 * late_threads.c - preloaded into nginx by a test: a thread that ends does so only when the rest
 * of its process has unloaded its modules, and the process waits for it before it is gone.  By
 * chance that happens once in some thousand exits.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#define THREAD_US  100000
#define PROCESS_US 300000

void pthread_exit(void *value)
{
    void (*real)(void *) = NULL;

    *(void **)&real = dlsym(RTLD_NEXT, "pthread_exit");
    usleep(THREAD_US);
    real(value);
    abort();
}

static void __attribute__((destructor)) wait_for_threads(void)
{
    usleep(PROCESS_US);
}

/* The first process of every pod of the testbed: holds its namespaces, reaps what is left over, ends when told to. */
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void reap(int number) {
    (void)number;
    while (waitpid(-1, NULL, WNOHANG) > 0) {
    }
}

static void leave(int number) {
    (void)number;
    _exit(0);
}

int main(void) {
    signal(SIGCHLD, reap);
    signal(SIGTERM, leave);
    signal(SIGINT, leave);
    for (;;) {
        pause();
    }
}

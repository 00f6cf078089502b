/* writer BYTES_A_WRITE TOTAL GO REPORT: write lines of 100 bytes to standard output as fast as they
 * are taken, then write to the file REPORT how many nanoseconds that took, how many bytes were
 * written, and how many nanoseconds of processor time we took ourselves. It begins when somebody
 * opens the FIFO named GO. One line goes first, and the clock starts when somebody has read it. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define LINE 100

static long long now(clockid_t clock)
{
    struct timespec at;
    clock_gettime(clock, &at);
    return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static void put(const char *data, long size)
{
    while (size > 0) {
        ssize_t done = write(1, data, size);
        if (done < 0)
            exit(3);
        data += done;
        size -= done;
    }
}

int main(int argc, char **argv)
{
    if (argc != 5)
        return 2;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    long size = atol(argv[1]), total = atol(argv[2]);
    /* Room for a whole number of lines beyond what one write takes, so that each begins anywhere
     * in a line and the stream is still nothing but lines. */
    char *lines = malloc(size + 2 * LINE);
    for (long i = 0; i < size + 2 * LINE; i++)
        lines[i] = i % LINE == LINE - 1 ? '\n' : 'a' + i % 23;
    if (open(argv[3], O_RDONLY | O_CLOEXEC) < 0)
        return 3;
    put(lines, LINE);
    for (int left = 1; left > 0;) {
        struct timespec pause = {0, 1000000};
        if (ioctl(1, FIONREAD, &left) < 0)
            break; /* no pipe: nobody to wait for */
        nanosleep(&pause, NULL);
    }
    total -= total % LINE;
    long long begun = now(CLOCK_MONOTONIC);
    long done = LINE;
    while (done < total) {
        long piece = total - done < size ? total - done : size;
        put(lines + done % LINE, piece);
        done += piece;
    }
    long long took = now(CLOCK_MONOTONIC) - begun;
    FILE *report = fopen(argv[4], "w");
    if (!report)
        return 4;
    fprintf(report, "%lld %ld %lld\n", took, done, now(CLOCK_PROCESS_CPUTIME_ID));
    return fclose(report) ? 5 : 0;
}

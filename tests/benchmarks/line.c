/*
 * A long line between two network namespaces, which line.py starts:
 *
 *     line DELAY RATE LOSS QUEUE
 *
 * DELAY: seconds one way. RATE: bytes per second from the first end to the second one; the way back has no limit.
 * LOSS: the share of packets that are lost, on both ways. QUEUE: bytes that wait for the line; more are dropped.
 *
 * It makes both namespaces, with a TUN device "line" in each, and prints the id of a process in each of them. Processes
 * that enter these talk over the line with the TCP of the kernel. Namespaces and devices have no names outside, so they
 * disappear with this process, however it ends. It ends when its standard input is closed. A number on standard input is
 * a new RATE. Every 100 ms it prints a line: the time (CLOCK_MONOTONIC), and the bytes that the second end got so far.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define MTU 1500
#define REPORT_EVERY 0.1

struct packet {
    struct packet *next;
    double due; /* when it arrives */
    int size;
    char bytes[MTU];
};

struct queue {
    struct packet *first, **last;
    long bytes;
};

struct way {
    int from, to;
    double rate;           /* bytes per second; 0: no limit */
    double credit;         /* bytes that may be sent at this instant */
    struct queue waiting;  /* for the line */
    struct queue on_line;  /* sent, and not arrived yet */
    unsigned long arrived; /* bytes */
};

static double delay, loss, queue_max;
static struct packet *unused;
static uint64_t random_state = 88172645463325252ULL;

static void fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static double monotonic(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

static double random_share(void) { /* xorshift64 */
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (random_state >> 11) / (double)(1ULL << 53);
}

static void put(struct queue *queue, struct packet *packet) {
    packet->next = NULL;
    *queue->last = packet;
    queue->last = &packet->next;
    queue->bytes += packet->size;
}

static struct packet *take(struct queue *queue) {
    struct packet *packet = queue->first;
    queue->first = packet->next;
    if (queue->first == NULL) queue->last = &queue->first;
    queue->bytes -= packet->size;
    return packet;
}

static void release(struct packet *packet) {
    packet->next = unused;
    unused = packet;
}

static void receive(struct way *way) {
    for (int count = 0; count < 4096; count++) {
        struct packet *packet = unused;
        if (packet != NULL)
            unused = packet->next;
        else if ((packet = malloc(sizeof *packet)) == NULL)
            fail("malloc");
        packet->size = read(way->from, packet->bytes, MTU);
        if (packet->size <= 0) {
            release(packet);
            return;
        }
        if ((loss > 0 && random_share() < loss) || way->waiting.bytes + packet->size > queue_max)
            release(packet);
        else
            put(&way->waiting, packet);
    }
}

/* Send what the line carries now, and deliver what has arrived. */
static void advance(struct way *way, double now) {
    while (way->waiting.first != NULL && (way->rate == 0 || way->credit >= way->waiting.first->size)) {
        struct packet *packet = take(&way->waiting);
        way->credit -= packet->size;
        packet->due = now + delay;
        put(&way->on_line, packet);
    }
    if (way->waiting.first == NULL) way->credit = 0;
    while (way->on_line.first != NULL && way->on_line.first->due <= now) {
        struct packet *packet = take(&way->on_line);
        if (write(way->to, packet->bytes, packet->size) > 0) way->arrived += packet->size; /* else the device is down */
        release(packet);
    }
}

static int new_end(void) {
    if (unshare(CLONE_NEWNET) < 0) fail("a network namespace");
    int device = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (device < 0) fail("/dev/net/tun");
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI, .ifr_name = "line"};
    if (ioctl(device, TUNSETIFF, &request) < 0) fail("a TUN device");
    return device;
}

/* Start a process that stays in this namespace as long as this process lives. */
static pid_t stay(void) {
    pid_t parent = getpid(), child = fork();
    if (child < 0) fail("fork");
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) _exit(0);
        close(0), close(1), close(2);
        for (;;) pause();
    }
    return child;
}

int main(int count, char **arguments) {
    if (count != 5) {
        fprintf(stderr, "usage: line DELAY RATE LOSS QUEUE\n");
        return 2;
    }
    delay = atof(arguments[1]), loss = atof(arguments[3]), queue_max = atof(arguments[4]);
    int first = new_end();
    pid_t in_first = stay();
    int second = new_end();
    struct way there = {.from = first, .to = second, .rate = atof(arguments[2])}, back = {.from = second, .to = first};
    struct way *ways[] = {&there, &back};
    for (int n = 0; n < 2; n++) {
        ways[n]->waiting.last = &ways[n]->waiting.first;
        ways[n]->on_line.last = &ways[n]->on_line.first;
    }
    printf("%d %d\n", in_first, getpid());
    fflush(stdout);

    /* Packets move in steps of this many seconds, so that a fast line does not take a whole processor. */
    double step = delay / 20;
    step = step > 250e-6 ? 250e-6 : step < 20e-6 ? 20e-6 : step;
    prctl(PR_SET_TIMERSLACK, 1000UL);
    struct pollfd inputs[] = {{0, POLLIN, 0}, {first, POLLIN, 0}, {second, POLLIN, 0}};
    double before = monotonic(), report_at = before;
    for (;;) {
        int idle = 1;
        for (int n = 0; n < 2; n++) idle &= ways[n]->waiting.first == NULL && ways[n]->on_line.first == NULL;
        struct timespec pause = {0, step * 1e9};
        if (!idle) nanosleep(&pause, NULL);
        if (poll(inputs, 3, idle ? (int)(REPORT_EVERY * 1000) : 0) < 0 && errno != EINTR) fail("poll");
        if (inputs[0].revents) {
            char text[64];
            ssize_t length = read(0, text, sizeof text - 1);
            if (length <= 0) return 0;
            text[length] = 0;
            if (atof(text) > 0) there.rate = atof(text);
        }
        double now = monotonic();
        for (int n = 0; n < 2; n++) {
            if (ways[n]->waiting.first != NULL) ways[n]->credit += ways[n]->rate * (now - before); /* not while idle */
            receive(ways[n]);
            advance(ways[n], now);
        }
        before = now;
        if (now >= report_at) {
            printf("%.6f %lu\n", now, there.arrived);
            fflush(stdout);
            report_at = now + REPORT_EVERY;
        }
    }
}

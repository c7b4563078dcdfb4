/* Many TFTP clients in one process, fast enough not to be what is measured: RFC 1350, 2348, 7440 over epoll.
 *
 *   client ADDRESS PORT FILE CLIENTS BLOCK_BYTES WINDOW SECONDS
 *
 * Prints one JSON object: completed, bytes, seconds (first request to last block), slowest, resent (requests and
 * acknowledgements), wrong (transfers whose checksum differs from the first's). WINDOW 1 asks for no windowsize.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { RETRY_MILLISECONDS = 1000, LARGEST = 65536 };

struct transfer {
    int socket;
    int begun, over;
    struct sockaddr_in peer;
    uint32_t block;     /* highest received in order */
    int block_bytes, window, in_window;
    uint64_t bytes, sum;
    double heard, took;
};

static struct sockaddr_in server;
static char request[512];
static int request_bytes, window_asked;
static long resent;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void acknowledge(struct transfer *t) {
    unsigned char packet[4] = {0, 4, (t->block >> 8) & 255, t->block & 255};
    sendto(t->socket, packet, 4, 0, (struct sockaddr *)&t->peer, sizeof t->peer);
    t->in_window = 0;
}

static void ask(struct transfer *t) {
    sendto(t->socket, request, request_bytes, 0, (struct sockaddr *)&server, sizeof server);
}

static void add_text(const char *text) {
    size_t length = strlen(text) + 1;
    memcpy(request + request_bytes, text, length);
    request_bytes += length;
}

static void take_options(struct transfer *t, const unsigned char *packet, int size) {
    const char *at = (const char *)packet + 2, *end = (const char *)packet + size;
    while (at < end) {
        const char *name = at, *value = name + strnlen(name, end - name) + 1;
        if (value >= end) break;
        if (!strcasecmp(name, "blksize")) t->block_bytes = atoi(value);
        if (!strcasecmp(name, "windowsize")) t->window = atoi(value);
        at = value + strnlen(value, end - value) + 1;
    }
}

static uint64_t fold(uint64_t sum, const unsigned char *bytes, int size) {
    uint64_t word;
    int at = 0;
    for (; at + 8 <= size; at += 8) {
        memcpy(&word, bytes + at, 8);
        sum = (sum ^ word) * 0x100000001b3ULL;
    }
    for (; at < size; at++) sum = (sum ^ bytes[at]) * 0x100000001b3ULL;
    return sum;
}

/* 1: the transfer is complete. -1: refused. */
static int take(struct transfer *t, const unsigned char *packet, int size, struct sockaddr_in *from) {
    if (size < 4) return 0;
    if (!t->begun) { t->peer = *from; t->begun = 1; }
    else if (from->sin_port != t->peer.sin_port) return 0;
    t->heard = now();
    if (packet[1] == 5) return -1;
    if (packet[1] == 6) {
        if (t->block == 0) { take_options(t, packet, size); acknowledge(t); }
        return 0;
    }
    if (packet[1] != 3) return 0;
    if (((t->block + 1) & 0xffff) != (uint32_t)((packet[2] << 8) | packet[3])) {
        /* A gap or a copy: once per window, so that copies do not multiply. */
        if (t->in_window >= 0 && t->window > 1) { acknowledge(t); t->in_window = -1; }
        return 0;
    }
    t->block++;
    t->bytes += size - 4;
    t->sum = fold(t->sum, packet + 4, size - 4);
    if (t->in_window < 0) t->in_window = 0;
    t->in_window++;
    if (size - 4 < t->block_bytes) { acknowledge(t); return 1; }
    if (t->in_window >= t->window) acknowledge(t);
    return 0;
}

int main(int count, char **words) {
    if (count != 8) { fprintf(stderr, "client ADDRESS PORT FILE CLIENTS BLOCK_BYTES WINDOW SECONDS\n"); return 2; }
    int clients = atoi(words[4]), block = atoi(words[5]);
    double limit = atof(words[7]);
    window_asked = atoi(words[6]);
    struct rlimit room = {clients + 64, clients + 64};
    setrlimit(RLIMIT_NOFILE, &room);
    server = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(atoi(words[2]))};
    inet_pton(AF_INET, words[1], &server.sin_addr);
    request[1] = 1;
    request_bytes = 2;
    add_text(words[3]);
    add_text("octet");
    if (block != 512) { add_text("blksize"); add_text(words[5]); }
    if (window_asked > 1) { add_text("windowsize"); add_text(words[6]); }

    struct transfer *all = calloc(clients, sizeof *all);
    int poller = epoll_create1(0);
    double begun = now(), last = begun, swept = begun, slowest = 0;
    for (int i = 0; i < clients; i++) {
        struct transfer *t = &all[i];
        t->socket = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
        if (t->socket < 0) { perror("socket"); return 2; }
        int buffer = 1 << 20;
        setsockopt(t->socket, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
        t->block_bytes = 512;
        t->window = 1;
        t->heard = now();
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = t};
        epoll_ctl(poller, EPOLL_CTL_ADD, t->socket, &event);
        ask(t);
    }
    static unsigned char packet[LARGEST];
    struct epoll_event events[256];
    int over = 0, completed = 0;
    while (over < clients && now() - begun < limit) {
        int ready = epoll_wait(poller, events, 256, 100);
        for (int i = 0; i < ready; i++) {
            struct transfer *t = events[i].data.ptr;
            struct sockaddr_in from;
            socklen_t length;
            int size, state = 0;
            while (!t->over) {
                length = sizeof from;
                size = recvfrom(t->socket, packet, sizeof packet, 0, (struct sockaddr *)&from, &length);
                if (size < 0) break;
                state = take(t, packet, size, &from);
                if (state == 0) continue;
                last = now();
                t->over = 1;
                t->took = last - begun;
                if (t->took > slowest) slowest = t->took;
                over++;
                completed += state > 0;
                t->sum = state > 0 ? t->sum : 0;
            }
        }
        if (now() - swept < 0.1) continue;
        swept = now();
        for (int i = 0; i < clients; i++) {
            struct transfer *t = &all[i];
            if (t->over || swept - t->heard < RETRY_MILLISECONDS / 1e3) continue;
            t->heard = swept;
            resent++;
            if (t->begun) acknowledge(t); else ask(t);
        }
    }
    uint64_t bytes = 0, sum = 0;
    int wrong = 0;
    for (int i = 0; i < clients; i++) {
        bytes += all[i].bytes;
        if (!all[i].sum) continue;
        if (!sum) sum = all[i].sum;
        wrong += all[i].over && all[i].sum != sum;
    }
    printf("{\"completed\": %d, \"bytes\": %llu, \"seconds\": %.4f, \"slowest\": %.4f, \"resent\": %ld, \"wrong\": %d}\n",
           completed, (unsigned long long)bytes, last - begun, slowest, resent, wrong);
    return 0;
}

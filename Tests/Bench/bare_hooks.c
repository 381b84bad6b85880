/* SPDX-License-Identifier: Apache-2.0
 *
 * The floor under hooks: a libcurl multi loop that posts one body over and over, with nothing
 * around it.
 *
 *   bare_hooks URL REQUESTS PARALLEL BODYFILE        prints requests a second
 *
 * Handles and connections are kept. The headers are as many and as long as those of a signed hook;
 * only `webhook-id` differs from one request to the next.
 */
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST_PARALLEL = 1024, MOST_BYTES = 65536 };

struct request {
    CURL *handle;
    struct curl_slist *headers;
};

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static size_t discard(char *bytes, size_t size, size_t count, void *context) {
    (void)bytes;
    (void)context;
    return size * count;
}

static void prepare(struct request *request, long number) {
    char line[80];
    snprintf(line, sizeof line, "webhook-id: %032ld", number);
    curl_slist_free_all(request->headers);
    request->headers = curl_slist_append(NULL, line);
    static const char *const rest[] = {
        "content-type: application/json",
        "accept: application/json",
        "webhook-timestamp: 1700000000",
        "webhook-signature: v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",
        "expect:",
    };
    for (size_t i = 0; i < sizeof rest / sizeof *rest; i++)
        request->headers = curl_slist_append(request->headers, rest[i]);
    curl_easy_setopt(request->handle, CURLOPT_HTTPHEADER, request->headers);
}

int main(int argc, char **argv) {
    if (argc != 5) {
        fprintf(stderr, "usage: bare_hooks URL REQUESTS PARALLEL BODYFILE\n");
        return 2;
    }
    long total = atol(argv[2]), parallel = atol(argv[3]);
    if (total < 1 || parallel < 1 || parallel > MOST_PARALLEL)
        return 2;
    if (parallel > total)
        parallel = total;
    static char body[MOST_BYTES];
    FILE *file = fopen(argv[4], "rb");
    if (!file)
        return 1;
    long size = (long)fread(body, 1, sizeof body, file);
    fclose(file);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    CURLM *multi = curl_multi_init();
    curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, parallel);
    struct request *requests = calloc((size_t)parallel, sizeof *requests);
    if (!multi || !requests)
        return 1;

    double started = seconds();
    long sent = 0, done = 0;
    for (long i = 0; i < parallel; i++) {
        struct request *request = &requests[i];
        request->handle = curl_easy_init();
        curl_easy_setopt(request->handle, CURLOPT_URL, argv[1]);
        curl_easy_setopt(request->handle, CURLOPT_POSTFIELDS, body);
        curl_easy_setopt(request->handle, CURLOPT_POSTFIELDSIZE, size);
        curl_easy_setopt(request->handle, CURLOPT_WRITEFUNCTION, discard);
        curl_easy_setopt(request->handle, CURLOPT_PROXY, "");
        curl_easy_setopt(request->handle, CURLOPT_TIMEOUT_MS, 30000L);
        curl_easy_setopt(request->handle, CURLOPT_PRIVATE, request);
        prepare(request, ++sent);
        curl_multi_add_handle(multi, request->handle);
    }
    while (done < total) {
        int running = 0, left = 0;
        curl_multi_perform(multi, &running);
        CURLMsg *message;
        while ((message = curl_multi_info_read(multi, &left))) {
            struct request *request = NULL;
            long status = 0;
            curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &request);
            curl_easy_getinfo(message->easy_handle, CURLINFO_RESPONSE_CODE, &status);
            if (message->data.result != CURLE_OK || status < 200 || status > 299) {
                fprintf(stderr, "bare_hooks: %s, status %ld\n",
                        curl_easy_strerror(message->data.result), status);
                return 1;
            }
            done++;
            curl_multi_remove_handle(multi, request->handle);
            if (sent < total) {
                prepare(request, ++sent);
                curl_multi_add_handle(multi, request->handle);
            }
        }
        if (done < total)
            curl_multi_poll(multi, NULL, 0, 1000, NULL);
    }
    printf("%.0f\n", (double)total / (seconds() - started));
    for (long i = 0; i < parallel; i++) {
        curl_easy_cleanup(requests[i].handle);
        curl_slist_free_all(requests[i].headers);
    }
    curl_multi_cleanup(multi);
    free(requests);
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The floor under Milepost's egress: a libcurl multi loop that posts, with nothing around it.
 *
 *   bare_curl URL TOKEN REQUESTS PARALLEL BODY        prints "requests a second, median
 * microseconds"
 *
 * Connections are kept and reused, as in Sources/MilepostEgress. `{n}` in the body is replaced by
 * the request's number.
 */
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct request {
    CURL *handle;
    char body[2048];
    double started;
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

static int compare(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static void prepare(struct request *request, const char *pattern, long number) {
    const char *mark = strstr(pattern, "{n}");
    if (mark) {
        snprintf(request->body, sizeof request->body, "%.*s%ld%s", (int)(mark - pattern), pattern,
                 number, mark + 3);
    } else {
        snprintf(request->body, sizeof request->body, "%s", pattern);
    }
    curl_easy_setopt(request->handle, CURLOPT_POSTFIELDS, request->body);
    curl_easy_setopt(request->handle, CURLOPT_POSTFIELDSIZE, (long)strlen(request->body));
    request->started = seconds();
}

int main(int argc, char **argv) {
    if (argc != 6) {
        fprintf(stderr, "usage: bare_curl URL TOKEN REQUESTS PARALLEL BODY\n");
        return 2;
    }
    long total = atol(argv[3]), parallel = atol(argv[4]);
    if (total < 1 || parallel < 1 || parallel > 256)
        return 2;
    if (parallel > total)
        parallel = total;
    curl_global_init(CURL_GLOBAL_DEFAULT);
    CURLM *multi = curl_multi_init();
    char header[600];
    snprintf(header, sizeof header, "x-api-token: %s", argv[2]);
    struct curl_slist *headers = curl_slist_append(NULL, header);
    headers = curl_slist_append(headers, "content-type: application/json");
    headers = curl_slist_append(headers, "expect:");
    struct request *requests = calloc((size_t)parallel, sizeof *requests);
    double *spent = calloc((size_t)total, sizeof *spent);
    if (!multi || !headers || !requests || !spent)
        return 1;

    double started = seconds();
    long sent = 0, done = 0;
    for (long i = 0; i < parallel; i++) {
        struct request *request = &requests[i];
        request->handle = curl_easy_init();
        curl_easy_setopt(request->handle, CURLOPT_URL, argv[1]);
        curl_easy_setopt(request->handle, CURLOPT_HTTPHEADER, headers);
        curl_easy_setopt(request->handle, CURLOPT_WRITEFUNCTION, discard);
        curl_easy_setopt(request->handle, CURLOPT_PROXY, "");
        curl_easy_setopt(request->handle, CURLOPT_TIMEOUT_MS, 30000L);
        curl_easy_setopt(request->handle, CURLOPT_PRIVATE, request);
        prepare(request, argv[5], ++sent);
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
                fprintf(stderr, "bare_curl: %s, status %ld\n",
                        curl_easy_strerror(message->data.result), status);
                return 1;
            }
            spent[done++] = seconds() - request->started;
            curl_multi_remove_handle(multi, request->handle);
            if (sent < total) {
                prepare(request, argv[5], ++sent);
                curl_multi_add_handle(multi, request->handle);
            }
        }
        if (done < total)
            curl_multi_poll(multi, NULL, 0, 1000, NULL);
    }
    double elapsed = seconds() - started;
    qsort(spent, (size_t)total, sizeof *spent, compare);
    printf("%.0f %.0f\n", (double)total / elapsed, spent[total / 2] * 1e6);
    for (long i = 0; i < parallel; i++)
        curl_easy_cleanup(requests[i].handle);
    curl_multi_cleanup(multi);
    curl_slist_free_all(headers);
    free(requests);
    free(spent);
    return 0;
}

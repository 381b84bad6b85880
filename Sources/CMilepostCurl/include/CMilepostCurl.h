/* SPDX-License-Identifier: Apache-2.0
 *
 * libcurl for Swift. Swift cannot call variadic C functions, so each of libcurl's three gets one typed function per
 * kind of argument, and nothing else lives here. The caller names the option; passing one of another kind is a bug that
 * libcurl cannot notice either.
 */
#ifndef CMILEPOST_CURL_H
#define CMILEPOST_CURL_H

#include <curl/curl.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- curl_easy_setopt ------------------------------------------------------------------------------------------- */

/** CURLOPTTYPE_LONG and CURLOPTTYPE_VALUES. */
CURLcode mp_curl_set_long(CURL *easy, CURLoption option, long value);
/** CURLOPTTYPE_OFF_T. */
CURLcode mp_curl_set_offset(CURL *easy, CURLoption option, curl_off_t value);
/** CURLOPTTYPE_STRINGPOINT: libcurl copies the text; null resets the option. */
CURLcode mp_curl_set_string(CURL *easy, CURLoption option, const char *value);
/** CURLOPTTYPE_OBJECTPOINT and CURLOPTTYPE_CBPOINT: libcurl keeps the pointer, the caller keeps what it points to. */
CURLcode mp_curl_set_pointer(CURL *easy, CURLoption option, void *value);
/** CURLOPTTYPE_SLISTPOINT: libcurl keeps the pointer, the caller frees the list after the transfer. */
CURLcode mp_curl_set_list(CURL *easy, CURLoption option, struct curl_slist *value);
/** CURLOPT_WRITEFUNCTION and CURLOPT_HEADERFUNCTION. */
CURLcode mp_curl_set_write_function(CURL *easy, CURLoption option, curl_write_callback function);
/** CURLOPT_OPENSOCKETFUNCTION. */
CURLcode mp_curl_set_open_socket_function(CURL *easy, curl_opensocket_callback function);
/** CURLOPT_PREREQFUNCTION. */
CURLcode mp_curl_set_prereq_function(CURL *easy, curl_prereq_callback function);

/* ---- curl_easy_getinfo ------------------------------------------------------------------------------------------ */

/** CURLINFO_LONG. */
CURLcode mp_curl_get_long(CURL *easy, CURLINFO info, long *ret_value);
/** CURLINFO_OFF_T: times in microseconds, sizes in bytes. */
CURLcode mp_curl_get_offset(CURL *easy, CURLINFO info, curl_off_t *ret_value);
/** CURLINFO_STRING: borrowed from the handle until its next transfer. */
CURLcode mp_curl_get_string(CURL *easy, CURLINFO info, const char **ret_value);

/* ---- curl_multi_setopt ------------------------------------------------------------------------------------------ */

/** CURLOPTTYPE_LONG of a multi handle. */
CURLMcode mp_curl_multi_set_long(CURLM *multi, CURLMoption option, long value);

/* ---- Unions ------------------------------------------------------------------------------------------------------ */

/** The result of a finished transfer: CURLMsg keeps it in a union, which Swift would read unsafely. */
CURLcode mp_curl_message_result(const CURLMsg *message);

#ifdef __cplusplus
}
#endif
#endif

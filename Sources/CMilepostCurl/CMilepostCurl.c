/* SPDX-License-Identifier: Apache-2.0 */
#include "CMilepostCurl.h"

/* curl.h turns the three into type-checking macros; parentheses reach the functions themselves. */

CURLcode mp_curl_set_long(CURL *easy, CURLoption option, long value)
{
    return (curl_easy_setopt)(easy, option, value);
}

CURLcode mp_curl_set_offset(CURL *easy, CURLoption option, curl_off_t value)
{
    return (curl_easy_setopt)(easy, option, value);
}

CURLcode mp_curl_set_string(CURL *easy, CURLoption option, const char *value)
{
    return (curl_easy_setopt)(easy, option, value);
}

CURLcode mp_curl_set_pointer(CURL *easy, CURLoption option, void *value)
{
    return (curl_easy_setopt)(easy, option, value);
}

CURLcode mp_curl_set_list(CURL *easy, CURLoption option, struct curl_slist *value)
{
    return (curl_easy_setopt)(easy, option, value);
}

CURLcode mp_curl_set_write_function(CURL *easy, CURLoption option, curl_write_callback function)
{
    return (curl_easy_setopt)(easy, option, function);
}

CURLcode mp_curl_set_open_socket_function(CURL *easy, curl_opensocket_callback function)
{
    return (curl_easy_setopt)(easy, CURLOPT_OPENSOCKETFUNCTION, function);
}

CURLcode mp_curl_set_prereq_function(CURL *easy, curl_prereq_callback function)
{
    return (curl_easy_setopt)(easy, CURLOPT_PREREQFUNCTION, function);
}

CURLcode mp_curl_get_long(CURL *easy, CURLINFO info, long *ret_value)
{
    return (curl_easy_getinfo)(easy, info, ret_value);
}

CURLcode mp_curl_get_offset(CURL *easy, CURLINFO info, curl_off_t *ret_value)
{
    return (curl_easy_getinfo)(easy, info, ret_value);
}

CURLcode mp_curl_get_string(CURL *easy, CURLINFO info, const char **ret_value)
{
    return (curl_easy_getinfo)(easy, info, ret_value);
}

CURLMcode mp_curl_multi_set_long(CURLM *multi, CURLMoption option, long value)
{
    return (curl_multi_setopt)(multi, option, value);
}

CURLcode mp_curl_message_result(const CURLMsg *message)
{
    return message->data.result;
}

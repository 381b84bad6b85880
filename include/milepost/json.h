/* SPDX-License-Identifier: Apache-2.0
 *
 * milepost/json.h: JSON, as much of it as a plugin needs: a reader that trusts nothing and a writer that cannot overflow.
 *
 * A convenience for connectors in C, compiled into them; no part of the ABI. Reading never allocates: a value is a
 * piece of the text that was checked whole before.
 */
#ifndef MILEPOST_JSON_H
#define MILEPOST_JSON_H

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MPK_JSON_DEPTH 64

/** A value inside a checked text; `at` null means that there is none. */
struct mpk_json {
    const char *at, *end;
};

static inline const char *mpk__space(const char *at, const char *end) {
    while (at < end && (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t'))
        at++;
    return at;
}

/* The end of the string that begins at `at`, or null. */
static inline const char *mpk__string_end(const char *at, const char *end) {
    for (at++; at < end; at++) {
        if ((unsigned char)*at < 0x20)
            return NULL;
        if (*at == '"')
            return at + 1;
        if (*at == '\\') {
            if (++at >= end)
                return NULL;
            if (*at == 'u') {
                if (end - at < 5)
                    return NULL;
                for (int i = 1; i <= 4; i++)
                    if (!strchr("0123456789abcdefABCDEF", at[i]) || !at[i])
                        return NULL;
                at += 4;
            } else if (!*at || !strchr("\"\\/bfnrt", *at)) {
                return NULL;
            }
        }
    }
    return NULL;
}

/* The end of the value that begins at `at`, or null when it is no JSON or too deep. */
static inline const char *mpk__value_end(const char *at, const char *end, int depth) {
    at = mpk__space(at, end);
    if (at >= end || depth > MPK_JSON_DEPTH)
        return NULL;
    if (*at == '"')
        return mpk__string_end(at, end);
    if (*at == '{' || *at == '[') {
        char close = *at == '{' ? '}' : ']';
        int is_object = *at == '{';
        at = mpk__space(at + 1, end);
        if (at < end && *at == close)
            return at + 1;
        for (;;) {
            if (is_object) {
                at = mpk__space(at, end);
                if (at >= end || *at != '"' || !(at = mpk__string_end(at, end)))
                    return NULL;
                at = mpk__space(at, end);
                if (at >= end || *at++ != ':')
                    return NULL;
            }
            at = mpk__value_end(at, end, depth + 1);
            if (!at)
                return NULL;
            at = mpk__space(at, end);
            if (at >= end)
                return NULL;
            if (*at == close)
                return at + 1;
            if (*at++ != ',')
                return NULL;
        }
    }
    const char *start = at;
    while (at < end && ((*at >= '0' && *at <= '9') || (*at >= 'a' && *at <= 'z') || *at == '-' || *at == '+' ||
                        *at == '.' || *at == 'E'))
        at++;
    size_t length = (size_t)(at - start);
    if ((length == 4 && (!memcmp(start, "true", 4) || !memcmp(start, "null", 4))) ||
        (length == 5 && !memcmp(start, "false", 5)))
        return at;
    return length && (*start == '-' || (*start >= '0' && *start <= '9')) ? at : NULL;
}

/** Checks a whole text. A value without `at` means that it is no JSON. */
static inline struct mpk_json mpk_parse(const void *bytes, size_t length) {
    const char *start = bytes, *end = start + length;
    const char *stop = start ? mpk__value_end(start, end, 0) : NULL;
    if (!stop || mpk__space(stop, end) != end)
        return (struct mpk_json){NULL, NULL};
    return (struct mpk_json){mpk__space(start, end), stop};
}

/** The next member of an object or item of an array. `*cursor` is null at first. 0 at the end. */
static inline int mpk_next(struct mpk_json whole, const char **cursor, struct mpk_json *ret_name, struct mpk_json *ret_value) {
    if (!whole.at || (*whole.at != '{' && *whole.at != '['))
        return 0;
    const char *at = mpk__space(*cursor ? *cursor : whole.at + 1, whole.end);
    if (*at == ',')
        at = mpk__space(at + 1, whole.end);
    if (*at == '}' || *at == ']')
        return 0;
    if (*whole.at == '{') {
        ret_name->at = at;
        ret_name->end = at = mpk__string_end(at, whole.end);
        at = mpk__space(at, whole.end) + 1;
    }
    at = mpk__space(at, whole.end);
    ret_value->at = at;
    ret_value->end = *cursor = mpk__value_end(at, whole.end, 0);
    return 1;
}

/** The member of an object; without `at` when there is none. */
static inline struct mpk_json mpk_member(struct mpk_json object, const char *name) {
    const char *cursor = NULL;
    struct mpk_json key, value, found = {NULL, NULL};
    size_t length = strlen(name);
    if (!object.at || *object.at != '{')
        return found;
    while (mpk_next(object, &cursor, &key, &value))
        if ((size_t)(key.end - key.at) == length + 2 && !memcmp(key.at + 1, name, length))
            found = value;
    return found;
}

/** Whether a value begins so: '{', '[', '"', 't', 'f', 'n', or '0' for any number. */
static inline int mpk_is(struct mpk_json value, char kind) {
    if (!value.at)
        return 0;
    if (kind == '0')
        return *value.at == '-' || (*value.at >= '0' && *value.at <= '9');
    return *value.at == kind;
}

/** A whole number, or `other`. */
static inline long long mpk_integer(struct mpk_json value, long long other) {
    char digits[24] = {0};
    if (!mpk_is(value, '0') || value.end - value.at >= (long)sizeof digits)
        return other;
    memcpy(digits, value.at, (size_t)(value.end - value.at));
    char *stop = digits;
    long long number = strtoll(digits, &stop, 10);
    return *stop ? other : number;
}

/** Decodes a string, or copies a number as it stands, cut at a character. The length, 0 for anything else. */
static inline size_t mpk_text(struct mpk_json value, char *ret_text, size_t capacity) {
    size_t used = 0;
    ret_text[0] = 0;
    if (!mpk_is(value, '"') && !mpk_is(value, '0'))
        return 0;
    int is_string = *value.at == '"';
    const char *at = value.at + is_string, *end = value.end - is_string;
    while (at < end) {
        unsigned long code = (unsigned char)*at++;
        size_t more = code < 0x80 || !is_string ? 0 : code >= 0xf0 ? 3 : code >= 0xe0 ? 2 : 1;
        char piece[5] = {(char)code};
        if (code == '\\') {
            char kind = *at++;
            const char *known = strchr("b\bf\fn\nr\rt\t", kind);
            piece[0] = known && kind > ' ' ? known[1] : kind;
            if (kind == 'u') {
                char digits[5] = {at[0], at[1], at[2], at[3], 0};
                code = strtoul(digits, NULL, 16);
                at += 4;
                if (code >= 0xd800 && code < 0xdc00 && end - at >= 6 && at[0] == '\\' && at[1] == 'u') {
                    char low[5] = {at[2], at[3], at[4], at[5], 0};
                    unsigned long second = strtoul(low, NULL, 16);
                    if (second >= 0xdc00 && second < 0xe000) {
                        code = 0x10000 + ((code - 0xd800) << 10) + (second - 0xdc00);
                        at += 6;
                    }
                }
                if ((code >= 0xd800 && code < 0xe000) || code == 0)
                    code = 0xfffd;
                size_t bytes = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
                if (bytes == 1)
                    piece[0] = (char)code;
                else
                    for (size_t i = bytes; i-- > 0; code >>= 6)
                        piece[i] = (char)(i ? 0x80 | (code & 0x3f)
                                            : (code | (bytes == 2   ? 0xc0
                                                       : bytes == 3 ? 0xe0
                                                                    : 0xf0)));
            }
        } else {
            for (size_t i = 1; i <= more && at < end; i++)
                piece[i] = *at++;
        }
        size_t length = strlen(piece);
        if (used + length + 1 > capacity)
            break;
        memcpy(ret_text + used, piece, length);
        used += length;
    }
    ret_text[used] = 0;
    return used;
}

/* Copies a text, cut at a character where it is too long: half of one would make JSON of it unreadable. */
static inline void mpk__copy(char *ret_text, size_t capacity, const char *text) {
    size_t length = text ? strlen(text) : 0;
    if (length >= capacity)
        for (length = capacity - 1; length > 0 && ((unsigned char)text[length] & 0xc0) == 0x80;)
            length--;
    if (length > 0)
        memmove(ret_text, text, length);
    ret_text[length] = 0;
}

/** A text that grows. When memory is out it stays as it was and `failed` says so. */
struct mpk_buffer {
    char *bytes;
    size_t length, capacity;
    int failed;
};

/** Adds bytes as they are. */
static inline void mpk_append(struct mpk_buffer *text, const char *bytes, size_t length) {
    if (text->failed)
        return;
    if (text->length + length + 1 > text->capacity) {
        size_t capacity = (text->length + length + 1) * 2;
        char *larger = realloc(text->bytes, capacity);
        if (!larger) {
            text->failed = 1;
            return;
        }
        text->bytes = larger;
        text->capacity = capacity;
    }
    memcpy(text->bytes + text->length, bytes, length);
    text->length += length;
    text->bytes[text->length] = 0;
}

/** Adds up to 511 bytes as printf writes them. */
__attribute__((format(printf, 2, 3))) static inline void mpk_format(struct mpk_buffer *text, const char *format, ...) {
    char piece[512];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(piece, sizeof piece, format, arguments);
    va_end(arguments);
    mpk_append(text, piece, length < 0 ? 0 : (size_t)length < sizeof piece ? (size_t)length : sizeof piece - 1);
}

/** Adds a string with its quotation marks. */
static inline void mpk_quote(struct mpk_buffer *text, const char *string) {
    mpk_append(text, "\"", 1);
    for (; *string; string++) {
        if (*string == '"' || *string == '\\')
            mpk_format(text, "\\%c", *string);
        else if ((unsigned char)*string < 0x20)
            mpk_format(text, "\\u%04x", *string);
        else
            mpk_append(text, string, 1);
    }
    mpk_append(text, "\"", 1);
}

#endif

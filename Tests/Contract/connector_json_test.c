/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON reader of connectors in C takes what comes: connector_header_test.py runs this. */
#include <milepost/json.h>

static int failures;

static void expect(int holds, const char *sentence) {
    if (holds)
        return;
    printf("failed: %s\n", sentence);
    failures++;
}

int main(void) {
    const char good[] = "{\"a\":[1,{\"b\":\"x\\u00e9\\ud83d\\ude00\\n\"}],\"n\":-12}";
    char text[40];
    struct mpk_json whole = mpk_parse(good, sizeof good - 1), name, item;
    const char *cursor = NULL;
    expect(whole.at != NULL, "good JSON is read");
    expect(mpk_integer(mpk_member(whole, "n"), 0) == -12, "numbers are read");
    expect(mpk_next(mpk_member(whole, "a"), &cursor, &name, &item) && mpk_integer(item, 0) == 1,
           "items come in order");
    expect(mpk_next(mpk_member(whole, "a"), &cursor, &name, &item), "all of them");
    mpk_text(mpk_member(item, "b"), text, sizeof text);
    expect(!strcmp(text, "x\xc3\xa9\xf0\x9f\x98\x80\n"), "escapes become UTF-8");
    expect(mpk_text(mpk_member(item, "b"), text, 3) == 1, "texts are cut at a character");
    const char *long_text = "ab\xc3\xa9\xf0\x9f\x98\x80z";
    const size_t cuts[] = {0, 1, 2, 2, 4, 4, 4, 4, 8, 9, 9};
    for (size_t room = 1; room <= sizeof cuts / sizeof cuts[0]; room++) {
        mpk__copy(text, room, long_text);
        expect(strlen(text) == cuts[room - 1] && !strncmp(text, long_text, cuts[room - 1]),
               "copies are cut at a character");
    }
    mpk__copy(text, sizeof text, NULL);
    expect(text[0] == 0, "nothing is copied as an empty text");
    expect(mpk_member(whole, "c").at == NULL, "what is not there is absent");
    /* Every beginning of a good text is bad, and none makes the reader read past it. */
    for (size_t length = 0; length + 1 < sizeof good; length++)
        expect(mpk_parse(good, length).at == NULL, "half a text is none");
    char deep[400];
    memset(deep, '[', 200);
    memset(deep + 200, ']', 200);
    expect(mpk_parse(deep, sizeof deep).at == NULL, "depth is bounded");
    printf(failures ? "%d failed\n" : "all passed\n", failures);
    return failures != 0;
}

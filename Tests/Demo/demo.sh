#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The five-minute tour, by itself, in well under a minute: clicks become deals in a CRM, a kill -9 in the middle of a
# delivery doubles none, and a rule moves a HubSpot deal on. Nothing leaves this machine; everything lies in a temporary folder and is gone at the end.
#   Tests/Demo/demo.sh        KEEP=1 keeps the folder
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
dist=${MILEPOST_DIST:-$root/.build/dist}
shared=${MILEPOST_SHARED:-$root/../shared}
if [ -d "$shared" ]; then shared=$(cd "$shared" && pwd); fi
for name in milepostd milepost milepost-sandbox milepost-plugin-worker plugins/pipedrive.so plugins/hubspot.so; do
    [ -e "$dist/$name" ] || { echo "$dist/$name is not there: run make build" >&2; exit 1; }
done
command -v curl >/dev/null || { echo "the demo needs curl" >&2; exit 1; }

work=$(mktemp -d "${TMPDIR:-/tmp}/milepost-demo.XXXXXX")
sandbox_pid="" daemon_pid=""

# Ends what this script started, by process id.
finish() {
    local status=$?
    for pid in $daemon_pid $sandbox_pid; do kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null || true; done
    if [ "$status" -ne 0 ]; then
        echo
        echo "The demo failed (status $status). The daemon's last lines:"
        tail -n 15 "$work/milepostd.log" 2>/dev/null || true
    fi
    if [ -n "${KEEP:-}" ]; then echo "kept: $work"; else rm -rf "$work"; fi
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

if [ -t 1 ]; then bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'; else bold="" dim="" plain=""; fi
step=0
heading() { step=$((step + 1)); printf '\n%s%s. %s%s\n' "$bold" "$step" "$1" "$plain"; }
indented() { sed 's/^/   /'; }
# Shows a command as a reader would type it, then runs it.
shown() { printf '   %s$ %s%s\n' "$dim" "$*" "$plain"; "$@" | indented; }
fail() { echo "   NOT as it should be: $1" >&2; exit 1; }

# address FILE PID: waits until a process says where it listens, 15 seconds at most.
address() {
    local line
    for _ in $(seq 300); do
        line=$(grep -oE 'listening on http://[0-9.]+:[0-9]+' "$1" 2>/dev/null | tail -n 1 || true)
        if [ -n "$line" ]; then echo "${line#listening on }"; return; fi
        kill -0 "$2" 2>/dev/null || { cat "$1" >&2; return 1; }
        sleep 0.05
    done
    return 1
}

start_daemon() {
    : >"$work/milepostd.log"
    "$dist/milepostd" --config "$work/milepost.yaml" "$@" >>"$work/milepostd.log" 2>&1 &
    daemon_pid=$!
    MILEPOST_URL=$(address "$work/milepostd.log" "$daemon_pid")
    export MILEPOST_URL
    for _ in $(seq 300); do
        curl -sf -o /dev/null "$MILEPOST_URL/readyz" && return
        sleep 0.05
    done
    fail "the daemon is not ready"
}

# The command line finds the token where 'milepost init' saves it.
export HOME=$work XDG_CONFIG_HOME=$work/config XDG_STATE_HOME=$work/state MILEPOST_WORKSPACE=acme
unset MILEPOST_TOKEN MILEPOST_URL MILEPOST_TOKEN_FILE
PATH=$dist:$PATH

ledger() { curl -sf "$sandbox/_sandbox/ledger?only=$1"; }
# The ledger as a person reads it, without the log of requests.
show_ledger() { curl -sf "$sandbox/_sandbox/ledger.txt" | sed '/^Requests/,$d' | cut -c1-150 | indented; }
# Deals and notes that really exist at the vendor.
count_deals() { ledger deals | grep -oE '"title":"(Link|Folder) [^"]*"' | wc -l; }
count_doubled() { ledger deals | grep -oE '"title":"(Link|Folder) [^"]*"' | sort | uniq -d | wc -l; }
count_notes() { ledger notes | grep -oE '"content":"' | wc -l; }

heading "A CRM to try it on: the sandbox speaks Pipedrive's API and keeps a ledger of what was really created"
milepost-sandbox --listen 127.0.0.1:0 --token demo-token --search-lag 1s >"$work/sandbox.log" 2>&1 &
sandbox_pid=$!
sandbox=$(address "$work/sandbox.log" "$sandbox_pid")
echo "   listening on $sandbox"

heading "Configuration, key, database and first token"
cat >"$work/milepost.yaml" <<YAML
listen: 127.0.0.1:0
data_dir: $work/data
plugin_dirs: [$dist/plugins]
kms: { type: file, path: $work/keys/kek }
schedule: { threshold_interval: 1h }      # the demo ticks by hand
delivery: { request_timeout: 2s }                     # so that the look-up after the crash need not wait long
plugins:
  pipedrive:
    enabled: true
    isolation: worker                                 # own process: no network, no files, seccomp and Landlock
    endpoints: { api: "$sandbox" }
YAML
indented <"$work/milepost.yaml"
shown milepost init --config "$work/milepost.yaml"

heading "The daemon starts and loads pipedrive.so into its sandboxed worker"
start_daemon
shown milepost plugins

heading "Connect: the token is proved, sealed and stored together with the target"
printf 'demo-token\n' | milepost connect pipedrive --token-stdin --set pipeline_id=1 --set stage_id=11 | indented

heading "Import a click log"
clicks=$shared/data/usagov-bitly-clicks.jsonl
if [ -r "$clicks" ]; then
    echo "   real clicks on 1.usa.gov links, recorded by bit.ly"
    format=bitly expected=4
else
    echo "   a generated log: 3,000 clicks on 60 links, a few of them popular"
    clicks=$work/clicks.jsonl format=milepost expected=4
    awk 'BEGIN {
        for (n = 0; n < 3000; n++) {
            # Four links take 1,420 clicks; the others share the rest evenly and stay below 100.
            if (n < 830) link = "spring-sale"; else if (n < 1150) link = "price-list"; else if (n < 1300) link = "webinar"
            else if (n < 1420) link = "case-study"; else link = sprintf("page-%02d", n % 56)
            printf "{\"id\":\"demo-%d\",\"ts\":\"2026-01-%02dT%02d:%02d:%02dZ\",\"link\":\"%s\",", n, n % 28 + 1, n % 24, n % 60, (n * 7) % 60, link
            printf "\"utm\":{\"source\":\"newsletter\",\"medium\":\"email\",\"campaign\":\"q1\"}}\n"
        }
    }' >"$clicks"
fi
shown milepost import clicks "$clicks" --format "$format"

heading "One tick: links past 100 clicks become deals"
shown milepost tick
show_ledger
[ "$(count_deals)" -eq "$expected" ] || fail "$(count_deals) deals, expected $expected"
[ "$(count_notes)" -eq "$expected" ] || fail "$(count_notes) notes, expected $expected"

heading "Why did a link fire, and why did it not?"
link=$(milepost deliveries --json | grep -oE '"link":"[^"]+"' | head -n 1 | cut -d'"' -f4)
shown milepost explain "$link"

heading "The same file again, and another tick: nothing is counted or created twice"
shown milepost import clicks "$clicks" --format "$format"
shown milepost tick
[ "$(count_deals)" -eq "$expected" ] || fail "$(count_deals) deals after the second import, expected $expected"

heading "Now the hard part: kill -9 between a deal's creation and its confirmation"
kill "$daemon_pid" && wait "$daemon_pid" || true
start_daemon --allow-crash-points --crash-at before_outcome
awk 'BEGIN { for (n = 0; n < 100; n++) printf "{\"id\":\"launch-%d\",\"ts\":\"2026-01-01T00:00:00Z\",\"link\":\"launch\"}\n", n }' >"$work/launch.jsonl"
echo "   100 clicks on a new link, and a tick in which the daemon dies by SIGKILL as soon as the CRM has created the deal"
milepost import clicks "$work/launch.jsonl" --format milepost | indented
milepost tick >"$work/tick.log" 2>&1 || true
for _ in $(seq 100); do
    kill -0 "$daemon_pid" 2>/dev/null || break
    sleep 0.1
done
kill -0 "$daemon_pid" 2>/dev/null && fail "the daemon still runs: $(cat "$work/tick.log")"
status=0
{ wait "$daemon_pid" || status=$?; } 2>/dev/null
daemon_pid=""
[ "$status" -eq 137 ] || fail "the daemon ended with $status, not by signal 9"
echo "   the daemon is dead (status $status: signal 9), and the CRM has $(count_deals) deals and $(count_notes) notes:"
show_ledger
[ "$(count_deals)" -eq $((expected + 1)) ] || fail "$(count_deals) deals, expected $((expected + 1))"
[ "$(count_notes)" -eq "$expected" ] || fail "$(count_notes) notes, expected $expected"
echo "   one deal is there that Milepost has no confirmation of, and its note is missing"

heading "Restart: Milepost looks the deal up before it sends anything, and completes the note"
start_daemon
for _ in $(seq 60); do
    milepost tick --json >"$work/tick.json"
    milepost deliveries --state pending,in_flight,uncertain,retrying --json | grep -q '"deliveries":\[\]' && break
    sleep 0.5
done
shown milepost explain launch
expected=$((expected + 1))
deals=$(count_deals) notes=$(count_notes) doubled=$(count_doubled)
show_ledger
[ "$deals" -eq "$expected" ] || fail "$deals deals, expected $expected"
[ "$notes" -eq "$expected" ] || fail "$notes notes, expected $expected"
[ "$doubled" -eq 0 ] || fail "$doubled deals exist twice"
[ "$(ledger requests | grep -oE '"method":"POST","path":"/api/v2/deals"' | wc -l)" -eq "$expected" ] || fail "a deal was sent more than once"

heading "HubSpot: the app's keys are sealed, and its timeline template is made once for all accounts"
# The vendor sends the person back to the daemon's address, so that must not change any more.
kill "$daemon_pid" && wait "$daemon_pid" || true
sed -i "s|^listen: .*|listen: ${MILEPOST_URL#http://}|" "$work/milepost.yaml"
cat >>"$work/milepost.yaml" <<YAML
  hubspot:
    enabled: true
    endpoints: { api: "$sandbox", app: "$sandbox" }
YAML
start_daemon
printf 'sandbox-secret\nsandbox-developer-key\n' | milepost app set hubspot --client-id sandbox-client --app-id 54321 --developer-key >/dev/null
shown milepost provision hubspot --app

heading "Install it by consent: a link with the scopes that are needed, and why"
milepost connect hubspot --feature rules --no-wait | sed 's|\(authorize?client_id=[a-z-]*\).*|\1\&…|' | indented
milepost connect hubspot --feature rules --no-wait --json >"$work/link.json"
link=$(grep -oE '"url":"[^"]+"' "$work/link.json" | cut -d'"' -f4 | sed 's|\\/|/|g')
curl -sfL -o "$work/page.html" "$link" || fail "the callback: $(cat "$work/page.html")"
grep -q Connected "$work/page.html" || fail "the callback does not say Connected"
echo "   opened in a browser, here by curl: $(sed -n 's|.*<h1>\(.*\)</h1>.*|\1|p' "$work/page.html" | head -n 1)"
milepost provision hubspot >/dev/null

heading "A rule from a file: three clicks on pricing within 30 days move the contact's deal on"
cat >"$work/rules.yaml" <<YAML
rules:
  - name: Three clicks on pricing
    trigger: { link: pricing, contact_window: 30d rolling, click_threshold: 3 }
    action: { type: hubspot.deal_stage, from_stage: appointmentscheduled, to_stage: qualifiedtobuy }
YAML
indented <"$work/rules.yaml"
milepost rules add "$work/rules.yaml" >/dev/null
for n in 1 2 3; do
    printf '{"id":"p%s","ts":%s,"link":"pricing","contact_id":"37765128953","utm":{"source":"webinar","medium":"email","campaign":"q2"}}\n' "$n" "$(date +%s)"
done >"$work/pricing.jsonl"
shown milepost import clicks "$work/pricing.jsonl" --format milepost
hub() { curl -sf "$sandbox/_sandbox/ledger.txt" | sed -n '/^Sandbox Hub/,/^Requests/p' | sed '/^  event /,$d'; }
arrived() {
    [ "$(hub | awk '$1 == "37765128953" { print $3 }')" = 3 ] && hub | grep -q '9001 .*appointmentscheduled > qualifiedtobuy' &&
        milepost explain --event p3 | grep -q fired
}
for _ in $(seq 100); do
    arrived && break
    sleep 0.1
done
hub | cut -c1-150 | indented
arrived || fail "three events and one moved deal were expected"

heading "And why it moved"
shown milepost explain --event p3

printf '\n%s%s crossings, %s deals, %s notes, none doubled, none lost; one HubSpot deal moved on, by a rule.%s\n' "$bold" "$expected" "$deals" "$notes" "$plain"

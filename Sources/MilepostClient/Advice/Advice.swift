// SPDX-License-Identifier: Apache-2.0

/// Causes and cures in plain words, by the stable codes of problems, connection states and delivery reasons (TRB-01 …
/// TRB-09).
public enum Advice {
    /// What to do about `code`; nil when the daemon's own words are all there is to say.
    public static func cure(for code: String) -> String? { table[code] }

    private static let table: [String: String] = [
        // TRB-01
        "credential_refused":
            "the vendor does not accept the token: make a new one where the vendor shows it ('milepost plugins show PLUGIN' "
            + "says where), and connect again",
        "unauthenticated":
            "the daemon does not know this token: check MILEPOST_TOKEN; if it is lost, stop the daemon, and 'milepost init' makes "
            + "another",
        // TRB-02
        "permission_missing": "the vendor account lacks a right: ask its administrator for access, or connect as one",
        "permission":
            "the vendor account lacks a right: ask its administrator for access, then 'milepost connect' again",
        "forbidden": "this token's scope does not reach that far: use one with scope operator or admin",
        // TRB-03
        "email_missing": "persons without an e-mail address are left out, because nothing would tell them apart",
        // TRB-04
        "field_ambiguous": "more than one field bears this label: use the 40-character key of the one that is meant",
        "field_unknown": "the field is not there: use its 40-character key or its exact label; "
            + "'milepost options INTEGRATION PICKER' lists what the vendor offers",
        // TRB-05
        "webhook_unreachable":
            "the vendor cannot reach public_url: it must be https, public, and not behind a firewall",
        // TRB-06
        "duplicate_person": "several records share one e-mail address: merge them in the CRM",
        // TRB-07
        "rate_limited": "the vendor asks for patience: sending resumes by itself at the time shown",
        "daily_budget": "the vendor's daily allowance is used up: sending resumes by itself when it resets",
        // TRB-08
        "needs_reauth":
            "the vendor no longer accepts the stored credentials: run 'milepost connect' again; nothing is lost meanwhile",
        "needs_target":
            "what it delivers to is not set, does not exist any more or may not be reached; the reason says which: choose "
            + "another with 'milepost integrations set'",
        "plugin_unavailable": "the plugin is not running: 'milepost plugins' says why",
        "quarantined": "the plugin crashed on different deliveries: update it, then 'milepost reload'",
        "vendor_unavailable":
            "the vendor does not answer: Milepost tries again by itself; its status page may know more",
        "storage_full": "the disk is full: make room; nothing acknowledged is lost",
        "storage_corrupt": "the database is damaged: stop the daemon and restore the last backup",
        "standby": "another daemon is active on this data directory: ask that one",
        "managed": "this comes from a file: change the file and apply it",
        "plan": "the workspace's plan does not include this: see plans in the configuration",
        "disabled":
            "its plugin is switched off in the configuration, or its endpoint failed for too long or is gone; the reason "
            + "says which: then mend it, and 'milepost integrations enable'",
        "endpoint_failing":
            "no delivery succeeded for too long: mend the other side, then 'milepost integrations enable'; what waits is kept",
        "endpoint_gone":
            "the receiver says it is gone: set another address with 'milepost integrations set', or disconnect",
        "hook_failed":
            "the hook that decides did not, and it is asked again by itself; to go on without it now: "
            + "'milepost deliveries release ID' for this one, 'milepost integrations set HOOK intercept=false' for all",
        "held_by_hook":
            "the hook asked to wait; to go on without it now: 'milepost deliveries release ID' for this one, "
            + "'milepost integrations set HOOK intercept=false' for all",
        "vetoed_by_hook": "the hook said no; 'milepost replay ID' asks it once more",
        "hook_undecided": "the hook never decided: look after it, then 'milepost replay ID' asks it again",
    ]
}

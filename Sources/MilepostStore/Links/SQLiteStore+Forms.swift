// SPDX-License-Identifier: Apache-2.0

import GRDB
public import MilepostModel

extension SQLiteStore {
    public func appendForms(
        _ forms: [FormSubmission], workspace: WorkspaceID, receivedAt: Timestamp
    ) async throws -> [Bool] {
        guard !forms.isEmpty else { return [] }
        let areNew = try await writer.write(.change, weight: forms.count) { context in
            let row = try context.workspaceRow(workspace)
            let insert = try context.db.cachedStatement(
                sql: """
                    INSERT INTO forms (workspace, name, at, contact, email, gclid, fbclid, fields, received_at, number,
                        position)
                    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
                    """)
            let before =
                try Int64.fetchOne(context.db, sql: "SELECT value FROM counters WHERE name = 'forms'") ?? 0
            var number = before
            let areNew = try forms.map { form in
                try insert.execute(arguments: [
                    row, form.id.rawValue, form.time.milliseconds, form.contactID, form.email, form.googleClickID,
                    form.facebookClickID, form.fields.description, receivedAt.milliseconds, number + 1,
                    context.state.clickPosition,
                ])
                guard context.db.changesCount == 1 else { return false }
                number += 1
                return true
            }
            if number > before {
                try context.db.execute(
                    sql: "UPDATE counters SET value = ? WHERE name = 'forms'", arguments: [number])
            }
            return areNew
        }
        let identifying = zip(forms, areNew).filter { form, isNew in
            isNew && (form.googleClickID != nil || form.facebookClickID != nil)
        }
        guard !identifying.isEmpty else { return areNew }
        arrivals.raise(workspace) { arrivals in
            for (form, _) in identifying {
                arrivals.forms[workspace, default: AdvertisementClicks()].add(
                    google: form.googleClickID, facebook: form.facebookClickID)
            }
        }
        return areNew
    }

    /// Newest first; `contact` is the contact's id or e-mail address.
    public func forms(workspace: WorkspaceID, contact: String, limit: Int) async throws -> [FormSubmission] {
        let limit = PageBounds.clamped(limit)
        return try await read("reading forms") { db in
            guard let row = try Self.workspaceRow(workspace, db) else { return [] }
            return try Row.fetchAll(
                db,
                sql: """
                    SELECT * FROM forms WHERE id IN (
                        SELECT id FROM forms WHERE workspace = ?1 AND contact = ?2
                        UNION SELECT id FROM forms WHERE workspace = ?1 AND email = ?2)
                    ORDER BY at DESC, id DESC LIMIT ?3
                    """, arguments: [row, contact, limit]
            ).map(FormRow.form(from:))
        }
    }
}

/// How a form submission lies in `forms`.
enum FormRow {
    static func form(from row: Row) -> FormSubmission {
        FormSubmission(
            id: EventID(row["name"]), time: Timestamp(milliseconds: row["at"]), contactID: row["contact"],
            email: row["email"], googleClickID: row["gclid"], facebookClickID: row["fbclid"],
            fields: StoredJSON.value(row["fields"]))
    }

    static func logged(from row: Row) -> LoggedForm {
        LoggedForm(
            form: form(from: row), number: row["number"], position: ClickPosition(row["position"]),
            receivedAt: Timestamp(milliseconds: row["received_at"]))
    }
}

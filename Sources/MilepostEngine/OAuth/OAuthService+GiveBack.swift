// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import MilepostPluginHost
import MilepostStore
import MilepostVault

extension OAuthService {
    /// Revokes the tokens of an installation that is not kept, so that nothing lives on at the vendor that nobody knows of.
    ///
    /// Only where no connection may live by them: some vendors give the same refresh token for each consent, and some end
    /// the whole installation with it. Forgotten they are in any case: nothing of them was stored.
    ///
    /// - Returns: a sentence for the person who is told of the refusal, or nothing.
    func giveBack(
        _ grant: TokenGrant, _ pending: PendingAuthorization, _ app: AppRegistration, _ oauth: OAuthDeclaration,
        _ declaration: PluginDeclaration
    ) async -> String {
        guard let place = oauth.revoke, let url = declaration.url(place), let refresh = grant.refresh,
            await isNobodyElses(grant, of: pending.integration.plugin)
        else { return "" }
        let reference = CredentialReference(
            connection: ConnectionID(pending.id), name: TokenClient.Name.unwanted)
        var isDead = false
        do {
            try transient.insert(refresh, for: reference)
            defer { transient.remove(reference) }
            isDead = await client.revoke(
                reference,
                app: .init(
                    clientID: app.clientID,
                    secret: CredentialReference(
                        connection: AppRegistration.connection(of: app.plugin), name: TokenClient.Name.clientSecret)),
                url: url, oauth, declaration)
        } catch {
            // Told as one that the vendor did not take back.
        }
        return isDead
            ? " The tokens that came with the consent were given back."
            : " The tokens that came with the consent were forgotten; the vendor did not take them back, so remove the "
                + "app in the account if it is not wanted."
    }

    private func isNobodyElses(_ grant: TokenGrant, of plugin: PluginName) async -> Bool {
        do {
            for chain in try await store.chains() {
                guard let connection = try await store.connection(id: chain.connection),
                    connection.integration.plugin == plugin
                else { continue }
                let isOther = grant.account.flatMap { own in chain.account.map { $0 != own } } ?? false
                if !isOther { return false }
            }
            return true
        } catch {
            // Not knowing whose they are is a reason to leave them alive.
            return false
        }
    }
}

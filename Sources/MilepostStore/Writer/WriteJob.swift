// SPDX-License-Identifier: Apache-2.0

import GRDB

/// A write that waits for the writer's thread. It is attempted (perhaps twice: in a group, then alone), then answered
/// once, after the commit is on disk.
protocol WriteJob: Sendable {
    var kind: WriteKind { get }
    /// Clicks it carries; 1 for other writes. What a transaction's size is measured in.
    var weight: Int { get }
    func attempt(_ context: WriteContext) throws
    func attemptAlone(_ db: Database, _ state: WriterState) throws
    func fail(_ error: any Error)
    /// Resumes the caller with what the last attempt left.
    func answer()
}

enum WriteKind {
    /// Only appends: shares the transaction without a savepoint, because nothing but bad luck makes it fail.
    case append
    /// May refuse (not found, conflict): runs inside a savepoint, so that its neighbours keep theirs.
    case change
    /// Runs between transactions: checkpoints, backup steps.
    case outside
}

/// The one implementation. Unchecked: `outcome` is touched by the writer's thread only, before `answer` hands it over
/// through the continuation (`GroupCommitTests` would notice).
final class PendingWrite<Value: Sendable>: WriteJob, @unchecked Sendable {
    let kind: WriteKind
    let weight: Int
    private let body: (@Sendable (WriteContext) throws -> Value)?
    private let outside: (@Sendable (Database, WriterState) throws -> Value)?
    private let continuation: CheckedContinuation<Value, any Error>
    private var outcome: Result<Value, any Error>?

    init(
        kind: WriteKind, weight: Int, continuation: CheckedContinuation<Value, any Error>,
        body: (@Sendable (WriteContext) throws -> Value)? = nil,
        outside: (@Sendable (Database, WriterState) throws -> Value)? = nil
    ) {
        self.kind = kind
        self.weight = weight
        self.continuation = continuation
        self.body = body
        self.outside = outside
    }

    func attempt(_ context: WriteContext) throws {
        guard let body else { preconditionFailure("a job that runs outside was put into a transaction") }
        outcome = .success(try body(context))
    }

    func attemptAlone(_ db: Database, _ state: WriterState) throws {
        guard let outside else { preconditionFailure("a transaction's job was run outside of one") }
        outcome = .success(try outside(db, state))
    }

    func fail(_ error: any Error) { outcome = .failure(error) }

    func answer() {
        guard let outcome else { preconditionFailure("a write was answered before it was attempted") }
        continuation.resume(with: outcome)
    }
}

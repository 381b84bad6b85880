// SPDX-License-Identifier: Apache-2.0

/// What may be tuned about the SQLite store. The defaults suit a machine with two cores and an SSD.
public struct SQLiteConfiguration: Sendable, Hashable {
    /// Most clicks that one transaction holds; a single call with more gets a transaction of its own. 8,192 keep the
    /// commit's fsync below a tenth of the cost while nobody waits long for a neighbour.
    public var clicksPerTransaction: Int
    /// Most calls that share one transaction.
    public var callsPerTransaction: Int
    /// Clicks and calls that may wait for the writer; past it a call fails with `failed` instead of using memory
    /// without end.
    public var queueLimit: Int
    /// Once the write-ahead log holds more than this, it is copied into the file as soon as nothing has come for some
    /// milliseconds.
    public var checkpointBytes: Int64
    /// Past this it is copied between two transactions, whoever waits: what a kill leaves to be read again at the next
    /// start, some tenths of a second. Single clicks over 64 callers touch some 100 pages a commit, mostly the same ones:
    /// at 4 MiB every seventh commit waited for a copy, at 32 MiB one in fifty, and they stored half as many again
    /// (measured). A tick after a burst waited 100 ms for 32 MiB.
    public var checkpointLimitBytes: Int64
    /// Connections that read; a read past that many waits.
    public var readers: Int
    /// Rows that one step of retention touches, so that writes never wait long behind it.
    public var retentionChunk: Int
    /// The largest the database may grow, in pages of 4 KiB; nil: the disk decides. Tests use it to meet a full disk.
    public var maximumPages: Int?
    /// Different campaign triples that are counted per link: bounds what hostile parameters can make us keep.
    public var campaignsPerLink: Int
    /// Links and workspaces whose numbers are kept in memory.
    public var cachedLinks: Int

    public init(
        clicksPerTransaction: Int = 8192, callsPerTransaction: Int = 2048, queueLimit: Int = 1_000_000,
        checkpointBytes: Int64 = 32 << 20, checkpointLimitBytes: Int64 = 128 << 20, readers: Int = 4,
        retentionChunk: Int = 20_000, maximumPages: Int? = nil, campaignsPerLink: Int = 512, cachedLinks: Int = 200_000
    ) {
        self.clicksPerTransaction = clicksPerTransaction
        self.callsPerTransaction = callsPerTransaction
        self.queueLimit = queueLimit
        self.checkpointBytes = checkpointBytes
        self.checkpointLimitBytes = max(checkpointBytes, checkpointLimitBytes)
        self.readers = readers
        self.retentionChunk = retentionChunk
        self.maximumPages = maximumPages
        self.campaignsPerLink = campaignsPerLink
        self.cachedLinks = cachedLinks
    }
}

// SPDX-License-Identifier: Apache-2.0

import MilepostVault
import Testing

@Suite struct SecretBytesTests {
    @Test("SEC-05: a secret's memory is zero when its last holder lets go", arguments: [1, 40, 300, 4096])
    func wiped(count: Int) throws {
        let pool = LockedPool()  // Of this test alone, so that nobody else writes where we look.
        let address: UnsafeRawPointer
        do {
            let secret = try unsafe SecretBytes(count: count, pool: pool) {
                unsafe $0.initializeMemory(as: UInt8.self, repeating: 0xa5)
            }
            let (start, isFilled) = unsafe secret.withBytes { unsafe ($0.baseAddress, $0.allSatisfy { $0 == 0xa5 }) }
            #expect(isFilled)
            unsafe address = try #require(start)
        }
        // Slots stay mapped in the pool, so looking is allowed.
        let after = unsafe UnsafeRawBufferPointer(start: address, count: count)
        let isWiped = unsafe after.allSatisfy { $0 == 0 }
        #expect(isWiped)
    }

    @Test("a slot that comes back from the pool is zero and never lent twice")
    func slots() throws {
        let pool = LockedPool()
        var held: [SecretBytes] = []
        var addresses: Set<UInt> = []
        for round in 0..<200 {
            let secret = try unsafe SecretBytes(count: 50, pool: pool) { room in
                let isClean = unsafe room.allSatisfy { $0 == 0 }
                #expect(isClean, "round \(round)")
                unsafe room.initializeMemory(as: UInt8.self, repeating: UInt8(round))
            }
            held.append(secret)
            let address = unsafe secret.withBytes { UInt(bitPattern: $0.baseAddress) }
            #expect(addresses.insert(address).inserted, "round \(round)")
        }
        for (round, secret) in held.enumerated() {
            let isKept = unsafe secret.withBytes { unsafe $0.allSatisfy { $0 == UInt8(round) } }
            #expect(isKept, "round \(round)")
        }
    }

    @Test("SEC-06: no way of printing a secret shows it")
    func printing() throws {
        let secret = try secret()
        var dumped = ""
        dump(["key": secret], to: &dumped)
        let shown =
            "\(secret) \([secret]) \(String(reflecting: secret)) \(String(describing: Optional(secret))) \(dumped)"
        #expect(!shown.contains(marker))
        #expect(shown.contains("<secret>"))
        #expect(!(secret is any Encodable))
        #expect(Mirror(reflecting: secret).children.isEmpty)
    }

    @Test("an array that hands its bytes over is wiped and emptied")
    func takenOver() throws {
        var bytes = Array(marker.utf8)
        let secret = try SecretBytes(wiping: &bytes)
        #expect(bytes.isEmpty)
        #expect(text(secret) == marker)
    }

    @Test("a secret has 1 to 65,536 bytes", arguments: [0, 65_537])
    func limits(count: Int) async throws {
        let error = await failure { _ = try SecretBytes(count: count, random: SeededRandom(1)) }
        #expect(error?.code == .limitExceeded)
        #expect(try SecretBytes(count: SecretBytes.maximumCount, random: SeededRandom(1)).count == 65_536)
    }

    @Test("comparison sees every byte and the length")
    func comparison() throws {
        #expect(try secret("abc").isEqual(to: secret("abc")))
        #expect(try !secret("abc").isEqual(to: secret("abd")))
        #expect(try !secret("abc").isEqual(to: secret("abcd")))
    }
}

// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import MilepostServer
import MilepostStore
import Testing

@Suite("events")
struct EventRoutesTests {
    private static func event(_ id: String, link: String = "l") -> JSONValue {
        ["id": .string(id), "link": .string(link), "ts": "2026-11-21T11:00:00Z"]
    }

    private static func counts(_ answer: HTTPExchange) -> [Int64?] {
        ["accepted", "duplicate", "rejected"].map { answer.json[$0]?.integer }
    }

    @Test("ING-01: object, array and NDJSON are taken, a repeat counts once, and a bad line says its number")
    func shapes() async throws {
        try await World.run { world in
            let token = try await world.token(.admin)
            let path = "/v1/workspaces/ws/events"
            let one = try await world.send("POST", path, token: token, json: Self.event("a"))
            #expect(
                one.status == 200 && Self.counts(one) == [1, 0, 0] && one.json["rejections"]?.array?.isEmpty == true)
            let array = try await world.send(
                "POST", path, token: token, json: [Self.event("a"), Self.event("b"), ["x": 1]])
            #expect(Self.counts(array) == [1, 1, 1] && array.json["rejections"]?.array?.first?["line"]?.integer == 3)
            let lines = "\(Self.event("c"))\n\nnonsense\n\(Self.event("c"))\n"
            let ndjson = try await world.send(
                "POST", path, token: token, type: "application/x-ndjson; charset=utf-8", body: Array(lines.utf8))
            #expect(Self.counts(ndjson) == [1, 1, 1] && ndjson.json["rejections"]?.array?.first?["line"]?.integer == 3)
            let unsaid = try await world.send(
                "POST", path, token: token, body: Array("\(Self.event("d"))\n\(Self.event("e"))".utf8))
            #expect(Self.counts(unsaid) == [2, 0, 0])
            #expect(try await world.store.link("l", workspace: "ws")?.totals.all == 5)
            let text = world.metrics.rendered()
            #expect(text.contains("milepost_events_total{result=\"accepted\"} 5"))
            #expect(text.contains("milepost_events_total{result=\"duplicate\"} 2"))
            #expect(
                text.contains("milepost_http_requests_total{route=\"/v1/workspaces/{ws}/events\",status=\"200\"} 4"))
        }
    }

    /// `gzip -n` of one event with id `z`, link `l`, ts 2026-11-21T11:00:00Z, as stored blocks: no compressor is needed.
    private static func gzip(_ bytes: [UInt8]) -> [UInt8] {
        var crc: UInt32 = 0xffff_ffff
        for byte in bytes {
            crc ^= UInt32(byte)
            for _ in 0..<8 { crc = crc & 1 == 1 ? crc >> 1 ^ 0xedb8_8320 : crc >> 1 }
        }
        func little(_ value: UInt32, _ count: Int) -> [UInt8] {
            (0..<count).map { UInt8(truncatingIfNeeded: value >> UInt32($0 * 8)) }
        }
        let length = UInt32(bytes.count)
        return [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1] + little(length, 2) + little(~length, 2) + bytes
            + little(~crc, 4) + little(length, 4)
    }

    @Test("gzip is understood, broken gzip is told, another encoding is 415")
    func encodings() async throws {
        try await World.run { world in
            let token = try await world.token(.admin)
            let path = "/v1/workspaces/ws/events"
            let body = Self.gzip(Self.event("z").bytes)
            func post(_ encoding: String, _ bytes: [UInt8]) async throws -> HTTPExchange {
                try await world.send(
                    "POST", path, token: token, type: "application/json", headers: ["Content-Encoding": encoding],
                    body: bytes)
            }
            #expect(Self.counts(try await post("gzip", body)) == [1, 0, 0])
            let broken = try await post("GZIP", Array(body.dropLast(6)))
            #expect(broken.status == 400 && broken.code == "bad_request")
            let brotli = try await post("br", body)
            #expect(brotli.status == 415 && brotli.code == "unsupported_media_type")
            let picture = try await world.send("POST", path, token: token, type: "image/png", body: body)
            #expect(picture.status == 415)
        }
    }

    @Test("a body over the limit is 413, announced or not, and stores nothing")
    func tooLarge() async throws {
        try await World.run { world in
            let token = try await world.token(.admin)
            let announced = try await world.send(
                "POST", "/v1/workspaces/ws/events", token: token, type: "application/json",
                body: [UInt8](repeating: 0x20, count: World.settings.maximumEventsBody + 1))
            #expect(announced.status == 413 && announced.code == "body_too_large")
            let chunk =
                String(repeating: "20000\r\n\(String(repeating: " ", count: 0x20000))\r\n", count: 2) + "0\r\n\r\n"
            let head =
                "POST /v1/workspaces/ws/events HTTP/1.1\r\nHost: t\r\nConnection: close\r\nAuthorization: Bearer \(token)\r\n"
                + "Transfer-Encoding: chunked\r\n\r\n"
            let chunked = try await HTTPExchange.send(Array((head + chunk).utf8), port: world.port)
            #expect(chunked.status == 413 && chunked.code == "body_too_large")
        }
    }

    @Test("decisions 35: an unknown workspace is 404 to a token that may only ingest, and appears for an administrator")
    func unknownWorkspace() async throws {
        try await World.run { world in
            let ingest = try await world.token(.ingest)
            let path = "/v1/workspaces/new/events"
            #expect(try await world.send("POST", path, token: ingest, json: Self.event("a")).status == 404)
            let admin = try await world.token(.admin)
            #expect(try await world.send("POST", path, token: admin, json: Self.event("a")).status == 200)
            #expect(Self.counts(try await world.send("POST", path, token: ingest, json: Self.event("b"))) == [1, 0, 0])
        }
    }

    @Test("names in paths are percent-decoded once; what is no name is refused")
    func paths() async throws {
        try await World.run { world in
            let token = try await world.token(.admin)
            let made = try await world.send(
                "PUT", "/v1/workspaces/ws/links/a%2Fb%20%25c", token: token, json: ["title": "t"])
            #expect(made.status == 200 && made.json["id"]?.string == "a/b %c")
            #expect(try await world.store.link("a/b %c", workspace: "ws")?.title == "t")
            for wrong in ["a%00b", "a%0ab", "%ff", String(repeating: "a", count: 257), "%zz"] {
                let answer = try await world.send(
                    "PUT", "/v1/workspaces/ws/links/\(wrong)", token: token, json: ["title": "t"])
                #expect(answer.status == 400, "\(wrong.prefix(20)) \(answer.status)")
            }
        }
    }
}

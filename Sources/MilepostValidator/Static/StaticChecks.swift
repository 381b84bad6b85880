// SPDX-License-Identifier: Apache-2.0

internal import CMilepostProbe
internal import MilepostModel

/// Checks 1 to 6: the file itself, before anything of it runs (5 runs its constructors).
enum StaticChecks {
    static let all = [
        Check(
            number: 1, title: "shared object for this machine, hardened",
            proves:
                "ELF64, this machine, stack not executable, relocations read-only and bound at load, no text relocations",
            cure: "Link with -shared -fPIC -Wl,-z,relro,-z,now,-z,noexecstack for this machine.", level: 1,
            run: { try hardened($0) }),
        Check(
            number: 2, title: "exports the entry and nothing else",
            proves: "the dynamic symbol table defines milepost_plugin_v1 alone",
            cure: "Link with -Wl,--version-script and { global: milepost_plugin_v1; local: *; }; in that file.",
            level: 1,
            run: { try exports($0) }),
        Check(
            number: 3, title: "needs the C library and its company only",
            proves: "every NEEDED library is on the list of what each Debian has, and none is looked for elsewhere",
            cure: "Link other libraries statically, and drop -rpath.", level: 1,
            run: { try needs($0) }),
        Check(
            number: 4, title: "no static TLS", proves: "the STATIC_TLS flag is not set",
            cure: "Compile without -ftls-model=initial-exec or local-exec.", level: 1,
            run: {
                try image($0).hasStaticTLS
                    ? .failed("it asks for static TLS, of which a process has a small pool only") : .passed("")
            }),
        Check(
            number: 5, title: "loads with every name resolved",
            proves: "dlopen with RTLD_NOW | RTLD_LOCAL succeeds with an empty environment, and the entry is there",
            cure: "Link with -Wl,-z,defs: the linker then names what is missing.", level: 1,
            run: { try loads($0) }),
        Check(
            number: 6, title: "no name left to chance",
            proves: "every undefined symbol is weak or bound to a version of a library that it names",
            cure: "Name the library on the link line (-lc, -lm, …), and link with -Wl,-z,defs.", level: 1,
            run: { try loose($0) }),
    ]

    private static let libraries = [
        "libc.so.6", "libm.so.6", "libgcc_s.so.1", "libstdc++.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1",
    ]

    private static func image(_ subject: Subject) throws -> ElfImage {
        do { return try ElfImage(parsing: subject.library) } catch { throw fail(error.description) }
    }

    private static func hardened(_ subject: Subject) throws -> Outcome {
        let image = try image(subject)
        if !image.isSharedObject { return .failed("it is an ELF file, but no shared object") }
        if image.machine != ElfImage.ownMachine {
            return .failed("it is for ELF machine \(image.machine), this is \(ElfImage.ownMachine)")
        }
        switch image.stackIsExecutable {
        case nil: return .failed("it has no GNU_STACK header, so the loader makes every stack executable")
        case true?: return .failed("it asks for an executable stack")
        case false?: break
        }
        if image.hasTextRelocations { return .failed("it has text relocations") }
        if !image.hasReadOnlyRelocations { return .failed("it has no read-only relocations (RELRO)") }
        if !image.bindsNow { return .failed("it does not bind at load (BIND_NOW)") }
        return .passed("\(subject.library.count / 1024) KiB")
    }

    private static func exports(_ subject: Subject) throws -> Outcome {
        let exported = Set(try image(subject).symbols.filter { $0.isDefined && !$0.isLocal }.map(\.name))
        if !exported.contains("milepost_plugin_v1") { return .failed("it does not export milepost_plugin_v1") }
        let others = exported.subtracting(["milepost_plugin_v1"]).sorted()
        guard others.isEmpty else {
            return .failed(
                "it exports \(others.count) more names, which the host's of the same name would replace: "
                    + others.prefix(5).joined(separator: ", "))
        }
        return .passed("")
    }

    private static func needs(_ subject: Subject) throws -> Outcome {
        let image = try image(subject)
        let others = image.needed.filter { !libraries.contains($0) && !$0.hasPrefix("ld-linux") }
        if !others.isEmpty { return .failed("it needs \(others.joined(separator: ", "))") }
        if let path = image.searchPaths.first(where: { $0 != "$ORIGIN" && !$0.isEmpty }) {
            return .failed("it looks for libraries in \(path)")
        }
        return .passed(image.needed.joined(separator: ", "))
    }

    private static func loads(_ subject: Subject) throws -> Outcome {
        var sentence = [CChar](repeating: 0, count: 1024)
        let result = unsafe mp_probe_entry(subject.libraryPath, &sentence, sentence.count)
        let text = Probes.text(sentence)
        // Whether the entry behaves is check 17's; here only the loader's word counts.
        if result == MP_PROBE_FAILED, text.hasPrefix("it cannot be loaded") || text.hasPrefix("it does not export") {
            return .failed(text)
        }
        return .passed("")
    }

    private static func loose(_ subject: Subject) throws -> Outcome {
        let loose = try image(subject).symbols.filter { !$0.isDefined && !$0.isWeak && !$0.isLocal && !$0.isVersioned }
        guard loose.isEmpty else {
            return .failed(
                "no library that it names has \(loose.prefix(5).map(\.name).joined(separator: ", ")): it works by chance"
            )
        }
        return .passed("")
    }
}

/// The C probes, as checks see them.
enum Probes {
    static func text(_ characters: [CChar]) -> String {
        String(decoding: characters.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    static func outcome(_ probe: (UnsafeMutablePointer<CChar>, Int) -> Int32) -> Outcome {
        var sentence = [CChar](repeating: 0, count: 2048)
        let result = unsafe sentence.withUnsafeMutableBufferPointer { buffer -> Int32 in
            guard let base = buffer.baseAddress else { return Int32(MP_PROBE_FAILED) }
            return unsafe probe(base, buffer.count)
        }
        let text = text(sentence)
        switch result {
        case Int32(MP_PROBE_PASSED): return .passed(text)
        case Int32(MP_PROBE_SKIPPED): return .skipped(text)
        case Int32(MP_PROBE_INAPPLICABLE): return .inapplicable(text)
        default: return .failed(text)
        }
    }
}

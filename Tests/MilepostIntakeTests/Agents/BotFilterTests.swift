// SPDX-License-Identifier: Apache-2.0

import MilepostIntake
import Testing

@Suite("EXC-06: machines are told from people")
struct BotFilterTests {
    @Test(
        "known robots, fetchers, libraries and monitors",
        arguments: [
            "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "curl/7.88.1", "Wget/1.21.3",
            "python-requests/2.31.0", "Go-http-client/1.1", "okhttp/4.12.0", "GoogleMaps/RochesterNY", "GoogleProducer",
            "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)", "facebookexternalhit/1.1",
            "WhatsApp/2.23.20.0",
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/120.0.0.0 Safari/537.36",
            "Mozilla/5.0 (compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)", "Pingdom.com_bot_version_1.4",
            "HTTP_Request2/2.0.0 (http://pear.php.net/package/http_request2) PHP/5.3.2-1ubuntu4.10", "Java/1.8.0_151",
            "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.0; +https://openai.com/gptbot)",
            "Mozilla/5.0 (Windows NT 6.1; WOW64) SkypeUriPreview Preview/0.5", "Twitterbot/1.0",
            "CUBOT_X18 Googlebot/2.1",
            "CURL/8.0", "Dalvik/2.1.0 (Linux) okhttp; spider",
        ])
    func machines(agent: String) {
        #expect(BotFilter.standard.isMachine(userAgent: agent))
    }

    @Test(
        "people, on odd devices and old ones too",
        arguments: [
            "", "Mozilla/5.0", "Mozilla/4.0 (compatible;)",
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
            "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148 [FBAN/FBIOS;FBAV/450.0]",
            "Mozilla/5.0 (iPhone; CPU iPhone OS 5_1 like Mac OS X) AppleWebKit/534.46 (KHTML, like Gecko) Mobile/9B176 Twitter for iPhone",
            "Mozilla/5.0 (Linux; Android 10; CUBOT_X18_Plus) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0 Mobile Safari/537.36",
            "Opera/9.80 (J2ME/MIDP; Opera Mini/4.1.15082/27.1350; U; en) Presto/2.8.119 Version/11.10",
            "BlackBerry8520/5.0.0.592 Profile/MIDP-2.1 Configuration/CLDC-1.1 VendorID/168",
            "Vodafone/1.0/LG-KU990i/V10c Browser/Obigo-Q05A/3.6 MMS/LG-MMS-V1.0/1.2 Java/ASVM/1.0 Profile/MIDP-2.0 Configuration/CLDC-1.1",
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Safari/605.1.15",
            "Mozilla/5.0 (Linux; Android 13; SAMSUNG SM-S918B) AppleWebKit/537.36 SamsungBrowser/23.0 Chrome/115.0.0.0 Mobile Safari/537.36",
            "Mozilla/5.0 (Windows NT 10.0; WOW64; Trident/7.0; rv:11.0) like Gecko",
            "Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0",
            "Mozilla/5.0 (Macintosh) AppleWebKit/537.36 Chrome/126.0 Electron/31.0 Slack/4.39 Safari/537.36",
        ])
    func people(agent: String) {
        #expect(!BotFilter.standard.isMachine(userAgent: agent))
    }

    @Test("no agent, no verdict")
    func noAgent() {
        #expect(!BotFilter.standard.isMachine(userAgent: nil))
        #expect(BotFilter.standard.isMachine(userAgent: nil, method: "HEAD"))
        #expect(BotFilter.standard.isMachine(userAgent: nil, purpose: "Prefetch"))
        #expect(!BotFilter.standard.isMachine(userAgent: nil, method: "GET", purpose: "navigate"))
    }

    @Test("an operator adds agents, or turns the filter off")
    func configured() {
        let filter = BotFilter(extraAgents: ["AcmeCheck", "^probe/", "", "^"])
        #expect(filter.isMachine(userAgent: "x acmecheck/1"))
        #expect(filter.isMachine(userAgent: "Probe/2"))
        #expect(!filter.isMachine(userAgent: "my probe/2"))
        #expect(filter.isMachine(userAgent: "curl/8"))
        #expect(!filter.isMachine(userAgent: "Mozilla/5.0"))
        #expect(!BotFilter.off.isMachine(userAgent: "curl/8", method: "HEAD"))
    }
}

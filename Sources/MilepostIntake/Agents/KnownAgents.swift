// SPDX-License-Identifier: Apache-2.0

/// Words that give a machine away. All small; `^` means at the start of the user agent.
///
/// Gathered from the vendors' own pages on their crawlers, from the default agents of HTTP libraries, and from the robots
/// in the public 1.USA.gov click feed. `BotFilterTests` holds a table of people's agents that must not match.
enum KnownAgents {
    /// By convention a robot names itself so, or carries a `+http…` link to its page.
    static let conventions = [
        "bot", "crawl", "spider", "slurp", "scrap", "+http", "archiver", "indexer", "fetcher", "harvest", "validator",
        "link check", "linkcheck", "link-check",
    ]

    /// Phones and apps whose names only look like a robot's.
    static let exceptions = ["cubot"]

    /// What programs send unless told otherwise. Anchored: browsers do not begin so.
    static let libraries = [
        "^curl/", "^wget", "^python", "python-requests", "python-urllib", "python-httpx", "aiohttp/", "^go-http-client",
        "^go-resty", "^java/", "^jakarta", "apache-httpclient", "^okhttp", "^axios/", "^node", "^undici", "^got (",
        "^ruby", "^faraday", "^rest-client", "^php/", "^guzzlehttp", "http_request", "pecl::http", "^symfony", "^perl",
        "libwww-perl", "^lwp", "^dart/", "^reqwest", "^hyper/", "^ureq", "^httpie", "^postmanruntime", "^insomnia/",
        "^restsharp", "^powershell", "windowspowershell", "^winhttp", "^libcurl", "^aria2", "^lua-resty", "^scrapy",
        "^swift-nio", "asynchttpclient", "^test_internet_agent", "^http-client", "^httpclient", "^mechanize",
        "^vegeta", "^k6/", "^apachebench", "^jmeter", "^artillery",
    ]

    /// Browsers with nobody in front of them.
    static let automation = [
        "headless", "phantomjs", "selenium", "puppeteer", "playwright", "electron-fetch", "lighthouse", "pagespeed",
        "gtmetrix", "webpagetest", "ptst/", "chrome-lighthouse", "splash version", "slimerjs", "htmlunit",
    ]

    /// Chat, mail and social services that open a link to draw its preview or to look for malware.
    static let previews = [
        "facebookexternalhit", "facebookcatalog", "facebookplatform", "meta-externalagent", "meta-externalfetcher",
        "whatsapp/", "skypeuripreview", "microsoftpreview", "ms-office", "google-safety", "google-read-aloud",
        "googleimageproxy", "google web preview", "google-inspectiontool", "google-pagerenderer", "google favicon",
        "mediapartners-google", "apis-google", "feedfetcher", "googleother", "google-extended", "^googleproducer",
        "^googlemaps/", "^google-", "flipboardproxy", "embedly", "iframely", "outbrain", "quora link preview",
        "vkshare", "w3c_", "bitlybot", "^tumblr/", "yahoo link preview", "yahoomailproxy", "mail.ru_",
        "snap url preview",
        "snapchatads", "line-poker", "^viber/", "nuzzel", "bufferapp", "hootsuite", "rebelmouse", "redditbot",
        "mastodon/",
        "pleroma", "misskey/", "akkoma", "linkpreview", "link preview", "urlpreview", "url preview", "proofpoint",
        "mimecast", "barracuda", "safelinks", "forcepoint", "paloalto",
        "ghostinspector", "acoon", "twynergy", "goldfire server", "bingpreview", "adbeat", "duckduckgo-favicons",
    ]

    /// Uptime and performance monitors, feed readers' fetchers, search and research.
    static let monitors = [
        "pingdom", "uptime", "statuscake", "site24x7", "newrelic", "datadog", "dynatrace", "catchpoint", "nagios",
        "check_http", "zabbix", "prometheus", "blackbox", "better stack", "checkly", "grafana", "monitis", "freshping",
        "hetrixtools", "nodeping", "montastic", "monitoring", "feedly", "feedburner", "inoreader", "newsblur",
        "tiny tiny rss",
        "universalfeedparser", "simplepie", "ahrefs", "semrush", "screaming frog", "sitebulb", "netcraft", "censys",
        "shodan", "masscan", "zgrab", "nmap", "nikto", "nessus", "qualys", "wpscan", "httrack", "heritrix", "nutch",
        "ia_archiver", "bytespider", "gptbot", "chatgpt-user", "claude-user", "perplexity", "cohere-ai", "ccbot",
    ]

    static let words = conventions + libraries + automation + previews + monitors
}

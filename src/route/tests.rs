use http::{HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;
use crate::config::{FromMatch, Network, Pattern, ValueMatch};

/// What a request says, owned.
#[derive(Debug, Clone)]
struct Request {
    host: String,
    path: String,
    query: String,
    method: Method,
    headers: HeaderMap,
    is_grpc: bool,
    from: Option<String>,
    address: Option<IpAddr>,
}

impl Request {
    fn new(host: &str, path: &str) -> Self {
        Self {
            host: host.to_owned(),
            path: path.to_owned(),
            query: String::new(),
            method: Method::GET,
            headers: HeaderMap::new(),
            is_grpc: false,
            from: None,
            address: None,
        }
    }

    fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.append(name, HeaderValue::from_str(value).unwrap());
        self
    }

    fn facts(&self) -> Facts<'_> {
        Facts {
            host: &self.host,
            path: &self.path,
            query: &self.query,
            method: &self.method,
            headers: &self.headers,
            is_grpc: self.is_grpc,
            from: self.from.as_deref(),
            address: self.address,
        }
    }
}

fn host(text: &str) -> Option<HostMatch> {
    match text {
        "" => None,
        host if host.starts_with("*.") => Some(HostMatch::Suffix(host[1..].to_owned())),
        host => Some(HostMatch::Exact(host.to_owned())),
    }
}

fn path(text: &str) -> Option<PathMatch> {
    match text {
        "" => None,
        text if text.starts_with('~') => Some(PathMatch::Regex(Pattern::new(&text[1..]).unwrap())),
        text => Some(PathMatch::Template(PathTemplate::new(text))),
    }
}

fn value(text: &str) -> ValueMatch {
    if let Some(inner) = text.strip_prefix('!') {
        return ValueMatch::Not(Box::new(value(inner)));
    }
    match text {
        "+" => ValueMatch::Present(true),
        "-" => ValueMatch::Present(false),
        text if text.starts_with('~') => ValueMatch::Regex(Pattern::new(&text[1..]).unwrap()),
        text if text.starts_with('*') => ValueMatch::Suffix(text[1..].to_owned()),
        text if text.ends_with('*') => ValueMatch::Prefix(text[..text.len() - 1].to_owned()),
        text => ValueMatch::Exact(text.to_owned()),
    }
}

fn of(host_text: &str, path_text: &str) -> Match {
    Match { host: host(host_text), path: path(path_text), ..Match::default() }
}

fn with_header(name: &'static str, text: &str) -> Match {
    Match { headers: vec![(HeaderName::from_static(name), value(text))], ..Match::default() }
}

fn router(routes: &[(&str, &str)]) -> Router {
    Router::new(&routes.iter().map(|(host, path)| of(host, path)).collect::<Vec<_>>())
}

fn position(router: &Router, request: &Request) -> Option<usize> {
    router.route(&request.facts()).map(|matched| matched.position)
}

fn at(router: &Router, host: &str, path: &str) -> Option<usize> {
    position(router, &Request::new(host, path))
}

#[test]
fn the_first_route_in_the_file_wins() {
    let router = router(&[("", "/a/*"), ("x.example", "/a/b"), ("x.example", ""), ("", "")]);
    assert_eq!(at(&router, "x.example", "/a/b"), Some(0));
    assert_eq!(at(&router, "x.example", "/c"), Some(2));
    assert_eq!(at(&router, "y.example", "/c"), Some(3));
}

#[test]
fn hosts_match_without_port_and_case_and_suffixes_take_one_or_more_labels() {
    let router = router(&[("*.example.com", ""), ("[::1]", "")]);
    assert_eq!(at(&router, "A.Example.COM:8080", "/"), Some(0));
    assert_eq!(at(&router, "a.b.example.com", "/"), Some(0));
    assert_eq!(at(&router, "example.com", "/"), None);
    assert_eq!(at(&router, "badexample.com", "/"), None);
    assert_eq!(at(&router, ".example.com", "/"), None);
    assert_eq!(at(&router, "[::1]:80", "/"), Some(1));
}

#[test]
fn captures_are_what_segments_and_groups_took() {
    let router = router(&[("", "/u/{id}/{what}/*"), ("", "/u/{id}"), ("", r"~/v(?<n>\d+)(/(?<x>.*))?"), ("", "/p/*")]);
    let captured = |path: &str| {
        let request = Request::new("", path);
        let matched = router.route(&request.facts()).unwrap();
        let taken = (0..3).map(|index| matched.captures.get(index, path).to_owned()).collect::<Vec<_>>();
        (matched.position, taken.join(","))
    };
    assert_eq!(captured("/u/1/b/c/d"), (0, "1,b,c/d".to_owned()));
    assert_eq!(captured("/u/1/b"), (0, "1,b,".to_owned()));
    assert_eq!(captured("/u/Bob"), (1, "Bob,,".to_owned()));
    assert_eq!(captured("/v12/a/b"), (2, "12,a/b,".to_owned()));
    assert_eq!(captured("/v12"), (2, "12,,".to_owned()));
    assert_eq!(captured("/p"), (3, ",,".to_owned()));
    assert_eq!(captured("/p/a/"), (3, "a/,,".to_owned()));
}

#[test]
fn of_several_values_one_that_fits_is_enough_and_not_means_none() {
    let request = Request::new("", "/").header("x-a", "one").header("x-a", "two");
    for (text, holds) in [
        ("one", true),
        ("two", true),
        ("three", false),
        ("t*", true),
        ("*e", true),
        ("~o.e", true),
        ("~o", false),
        ("+", true),
        ("-", false),
        ("!one", false),
        ("!three", true),
        ("!~tw.", false),
    ] {
        assert_eq!(position(&Router::new(&[with_header("x-a", text)]), &request).is_some(), holds, "{text}");
    }
    for (text, holds) in [("one", false), ("+", false), ("-", true), ("!one", true)] {
        assert_eq!(position(&Router::new(&[with_header("x-b", text)]), &request).is_some(), holds, "{text}");
    }
}

#[test]
fn a_grpc_route_takes_calls_of_its_service_and_nothing_else() {
    let grpc = |method: Option<&str>| {
        let grpc = GrpcMatch { service: "pkg.Greeter".to_owned(), method: method.map(ToOwned::to_owned) };
        Router::new(&[Match { grpc: Some(grpc), ..Match::default() }])
    };
    let call = |path: &str, is_grpc| Request { is_grpc, ..Request::new("", path) };
    assert!(position(&grpc(None), &call("/pkg.Greeter/Hello", true)).is_some());
    assert!(position(&grpc(Some("Hello")), &call("/pkg.Greeter/Hello", true)).is_some());
    assert!(position(&grpc(Some("Bye")), &call("/pkg.Greeter/Hello", true)).is_none());
    assert!(position(&grpc(None), &call("/pkg.Greeter/Hello", false)).is_none());
    for other in ["/pkg.Greeter", "/pkg.Greeter/", "/pkg.Greeter/Hello/x", "/pkg.Greeter2/Hello"] {
        assert!(position(&grpc(None), &call(other, true)).is_none(), "{other}");
    }
}

#[test]
fn an_explanation_names_the_first_condition_that_did_not_hold() {
    let all = [
        of("x.example", ""),
        of("", "/b"),
        with_header("x-env", "staging"),
        of("", "/a"),
        Match { addresses: vec!["10.0.0.0/8".parse().unwrap()], ..Match::default() },
        Match::default(),
    ];
    let router = Router::new(&all);
    let request = Request::new("Y.example:80", "/a").header("x-env", "prod");
    let lost = router.explain(&request.facts());
    let missed = |key: &str, found: &str| Lost::Missed(Miss { key: key.to_owned(), found: found.to_owned() });
    assert_eq!(
        lost,
        [
            (0, missed("host", "`y.example`")),
            (1, missed("path", "`/a`")),
            (2, missed("headers.x-env", "`prod`")),
            (4, missed("address", "nothing")),
            (5, Lost::Later),
        ]
    );
    assert_eq!(position(&router, &request), Some(3));
}

#[test]
fn many_routes_that_differ_in_one_value_are_looked_up_by_it() {
    let mut all: Vec<Match> = (0..1000).map(|n| with_header("x-tenant", &format!("t{n}"))).collect();
    // The same value once more is hidden; another condition on the way is not.
    all.push(with_header("x-tenant", "t7"));
    all.push(with_header("x-other", "1"));
    let router = Router::new(&all);
    let tenant = |value: &str| Request::new("", "/").header("x-tenant", value);
    assert_eq!(position(&router, &tenant("t0")), Some(0));
    assert_eq!(position(&router, &tenant("t999")), Some(999));
    assert_eq!(position(&router, &tenant("t7")), Some(7));
    assert_eq!(position(&router, &tenant("none")), None);
    assert_eq!(position(&router, &tenant("none").header("x-other", "1")), Some(1001));
    assert_eq!(position(&router, &tenant("t5").header("x-tenant", "t3")), Some(3));
}

#[test]
fn a_route_is_covered_by_a_wider_one_of_every_kind() {
    let value_case = |wide: &str, narrow: &str| covers(&with_header("x-a", wide), &with_header("x-a", narrow));
    for (wide, narrow) in
        [("+", "v"), ("+", "v*"), ("v*", "v1"), ("v*", "v1*"), ("*v", "av"), ("~v.", "v1"), ("!v", "!v"), ("!v", "-")]
    {
        assert!(value_case(wide, narrow), "{wide} {narrow}");
    }
    // With two values, one may be `w` and the other one `v`.
    for (wide, narrow) in [("v", "+"), ("v1*", "v*"), ("!v", "w"), ("-", "!v"), ("+", "!v"), ("!-", "-")] {
        assert!(!value_case(wide, narrow), "{wide} {narrow}");
    }
    for (wide, narrow, expected) in [
        ("/a/{x}", "/a/{y}", true),
        ("/a/{x}", "/a/b", true),
        ("/a/b", "/a/{x}", false),
        ("/a/*", "/a/{x}/c", true),
        ("/a/{x}", "/a/b/*", false),
        ("/{x}/*", "/a", true),
        ("/{x}", "/", false),
        ("/*", "~/.*", true),
        ("~/a/.*", "/a/b", true),
        ("~/a/.*", "/a/{x}", false),
        ("~/a", "~/a", true),
    ] {
        assert_eq!(covers(&of("", wide), &of("", narrow)), expected, "{wide} {narrow}");
    }
    let grpc = |text: &str| match text.split_once('/') {
        Some((service, method)) => GrpcMatch { service: service.to_owned(), method: Some(method.to_owned()) },
        None => GrpcMatch { service: text.to_owned(), method: None },
    };
    let call = |text: &str| Match { grpc: Some(grpc(text)), ..Match::default() };
    assert!(covers(&call("a.B"), &call("a.B/C")) && !covers(&call("a.B/C"), &call("a.B")));
    assert!(covers(&of("", "/a.B/*"), &call("a.B/C")) && !covers(&call("a.B/C"), &of("", "/a.B/C")));
    let net = |text: &str| Match { addresses: vec![text.parse().unwrap()], ..Match::default() };
    assert!(covers(&net("10.0.0.0/8"), &net("10.1.0.0/16")) && !covers(&net("10.0.0.0/8"), &Match::default()));
    let method = |text: &str| Match { methods: vec![text.parse().unwrap()], ..Match::default() };
    assert!(!covers(&method("GET"), &method("POST")) && !covers(&method("GET"), &Match::default()));
}

/// The plain reading of the rules, to compare with; it shares no code with what is compared.
fn reads(matches: &Match, request: &Request) -> bool {
    fn segments(text: &str) -> Vec<&str> {
        text.split('/').skip(1).collect()
    }
    fn one(wanted: &ValueMatch, values: &[String]) -> bool {
        match wanted {
            ValueMatch::Exact(exact) => values.contains(exact),
            ValueMatch::Prefix(prefix) => values.iter().any(|value| value.starts_with(prefix.as_str())),
            ValueMatch::Suffix(suffix) => values.iter().any(|value| value.ends_with(suffix.as_str())),
            ValueMatch::Regex(pattern) => values.iter().any(|value| pattern.matches(value.as_bytes())),
            ValueMatch::Present(present) => values.is_empty() != *present,
            ValueMatch::Not(inner) => !one(inner, values),
        }
    }
    let host_fits = match &matches.host {
        None => true,
        Some(HostMatch::Exact(exact)) => *exact == request.host,
        Some(HostMatch::Suffix(suffix)) => request.host.len() > suffix.len() && request.host.ends_with(suffix),
    };
    let path_fits = match &matches.path {
        None => true,
        Some(PathMatch::Regex(pattern)) => pattern.matches(request.path.as_bytes()),
        Some(PathMatch::Template(template)) => {
            let (found, wanted) = (segments(&request.path), &template.segments);
            found.len() >= wanted.len()
                && (template.rest || found.len() == wanted.len())
                && wanted.iter().zip(&found).all(|(wanted, found)| match wanted {
                    Segment::Literal(literal) => literal == found,
                    Segment::Capture(_) => !found.is_empty(),
                })
        }
    };
    let header = |name: &HeaderName| -> Vec<String> {
        request.headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
    };
    let parameter = |name: &str| -> Vec<String> {
        let pairs = request.query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(found, _)| *found == name).map(|(_, value)| value.to_owned()).collect()
    };
    let called = request.path.trim_start_matches('/');
    host_fits
        && path_fits
        && (matches.methods.is_empty() || matches.methods.contains(&request.method))
        && matches.headers.iter().all(|(name, value)| one(value, &header(name)))
        && matches.query.iter().all(|(name, value)| one(value, &parameter(name)))
        && matches.grpc.as_ref().is_none_or(|grpc| {
            let call = match &grpc.method {
                Some(method) => called == format!("{}/{method}", grpc.service),
                None => matches!(called.split('/').collect::<Vec<_>>()[..], [service, method] if service == grpc.service && !method.is_empty()),
            };
            request.is_grpc && call
        })
        && matches.from.as_ref().is_none_or(|from| {
            request.from.as_ref().is_some_and(|id| match from {
                FromMatch::Exact(exact) => exact == id,
                FromMatch::Below(prefix) => id.starts_with(prefix.as_str()),
            })
        })
        && (matches.addresses.is_empty()
            || request.address.is_some_and(|address| matches.addresses.iter().any(|one| one.contains(address))))
}

prop_compose! {
    fn any_match()(
        host_text in "(|a|b|a\\.b|\\*\\.b|\\*\\.a\\.b)",
        path_text in "(|/x|/x/\\*|/x/y|/x/y/\\*|/\\*|/\\{a\\}|/x/\\{a\\}|/\\{a\\}/y/\\*|~/x\\.\\*|/)",
        methods in proptest::option::of("(GET|POST)"),
        header in proptest::option::weighted(0.6, "!?([a-d]|a\\*|\\*a|~[ab]|\\+|-)"),
        query in proptest::option::weighted(0.3, "!?([a-d]|b\\*|\\+|-)"),
        grpc in proptest::option::weighted(0.2, "(x|x/y)"),
        from in proptest::option::weighted(0.3, "(s/[a-c]|s/\\*)"),
        network in proptest::option::weighted(0.1, "(10\\.0\\.0\\.0/8|10\\.0\\.0\\.1|::/0)"),
    ) -> Match {
        Match {
            host: host(&host_text),
            path: path(&path_text),
            methods: methods.iter().map(|text| text.parse().unwrap()).collect(),
            headers: header.iter().map(|text| (HeaderName::from_static("x-h"), value(text))).collect(),
            query: query.iter().map(|text| ("q".to_owned(), value(text))).collect(),
            grpc: grpc.map(|text| match text.split_once('/') {
                Some((service, method)) => GrpcMatch { service: service.to_owned(), method: Some(method.to_owned()) },
                None => GrpcMatch { service: text, method: None },
            }),
            from: from.map(|text| match text.strip_suffix('*') {
                Some(prefix) => FromMatch::Below(prefix.to_owned()),
                None => FromMatch::Exact(text),
            }),
            addresses: network.iter().map(|text| text.parse::<Network>().unwrap()).collect(),
        }
    }
}

prop_compose! {
    fn any_request()(
        host in "(a|b|a\\.b|c\\.a\\.b|c\\.b)",
        path in "/(x|x/y|x/y/z|x/|xy|xy/y|x//z|)",
        query in "(|q=[a-d]|q=bb&q=a|p=a)",
        method in "(GET|POST)",
        headers in proptest::collection::vec("[a-d]|ab|ba", 0..3),
        is_grpc: bool,
        from in proptest::option::of("s/[a-c]"),
        address in proptest::option::of("(10\\.0\\.0\\.[12]|::1)"),
    ) -> Request {
        let mut request = Request { query, method: method.parse().unwrap(), is_grpc, from, ..Request::new(&host, &path) };
        for value in &headers {
            request = request.header("x-h", value);
        }
        request.address = address.map(|address| address.parse().unwrap());
        request
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn the_compiled_matcher_says_what_a_walk_through_the_file_says(
        routes in proptest::collection::vec(any_match(), 0..40),
        request in any_request(),
    ) {
        let router = Router::new(&routes);
        let expected = routes.iter().position(|matches| reads(matches, &request));
        prop_assert_eq!(position(&router, &request), expected);
        let lost: Vec<usize> = router.explain(&request.facts()).into_iter().map(|(position, _)| position).collect();
        let others: Vec<usize> = (0..routes.len()).filter(|position| Some(*position) != expected).collect();
        prop_assert_eq!(lost, others);
    }

    /// A false warning would have somebody delete a route that is needed.
    #[test]
    fn what_covers_another_matches_all_that_the_other_matches(
        wide in any_match(),
        narrow in any_match(),
        same in proptest::bits::u8::ANY,
        requests in proptest::collection::vec(any_request(), 20),
    ) {
        // Two routes at random differ in too much for one to cover the other.
        let kept = |bit: u8| same >> bit & 1 == 1;
        let wide = Match {
            host: if kept(0) { narrow.host.clone() } else { wide.host },
            methods: if kept(1) { narrow.methods.clone() } else { wide.methods },
            headers: if kept(2) { narrow.headers.clone() } else { wide.headers },
            query: if kept(3) { narrow.query.clone() } else { wide.query },
            grpc: if kept(4) { narrow.grpc.clone() } else { wide.grpc },
            from: if kept(5) { narrow.from.clone() } else { wide.from },
            addresses: if kept(6) { narrow.addresses.clone() } else { wide.addresses },
            path: wide.path,
        };
        if covers(&wide, &narrow) {
            for request in requests.iter().filter(|request| reads(&narrow, request)) {
                prop_assert!(reads(&wide, request), "{:?}", request);
            }
        }
    }

    /// Routes with one host and path, which only differ in values: the case that buckets are indexed for.
    #[test]
    fn so_it_does_among_many_routes_that_differ_in_values_only(
        routes in proptest::collection::vec(
            (proptest::option::of("t[0-9]{1,2}"), proptest::option::of("t[0-9]{1,2}"), proptest::option::of("s/[a-z]")),
            0..200,
        ),
        header in "t[0-9]{1,2}",
        other in "t[0-9]{1,2}",
        from in "s/[a-z]",
    ) {
        let routes: Vec<Match> = routes.iter().map(|(header, query, from)| Match {
            headers: header.iter().map(|text| (HeaderName::from_static("x-h"), value(text))).collect(),
            query: query.iter().map(|text| ("q".to_owned(), value(text))).collect(),
            from: from.clone().map(FromMatch::Exact),
            ..Match::default()
        }).collect();
        let request = Request { query: format!("q={other}"), from: Some(from), ..Request::new("a", "/").header("x-h", &header) };
        let expected = routes.iter().position(|matches| reads(matches, &request));
        prop_assert_eq!(position(&Router::new(&routes), &request), expected);
    }
}

/// `cargo test --release --lib a_lookup_costs -- --ignored --nocapture` shows figures.
#[test]
#[ignore = "measures time"]
fn a_lookup_costs_the_same_among_10_and_5000_routes() {
    fn cost(all: &[Match], requests: &[Request]) -> f64 {
        let router = Router::new(all);
        let rounds = 200_000 / requests.len();
        let best = (0..5).map(|_| {
            let started = std::time::Instant::now();
            for _ in 0..rounds {
                for request in requests {
                    std::hint::black_box(router.route(&std::hint::black_box(request).facts()));
                }
            }
            started.elapsed().as_secs_f64() * 1e9 / (rounds * requests.len()) as f64
        });
        best.fold(f64::MAX, f64::min)
    }
    type Case = (&'static str, fn(usize) -> Match, fn(usize) -> Request);
    let cases: [Case; 5] = [
        ("hosts", |n| of(&format!("h{n}.example"), ""), |n| Request::new(&format!("h{n}.example"), "/")),
        ("paths", |n| of("", &format!("/v1/r{n}/*")), |n| Request::new("h", &format!("/v1/r{n}/x/y"))),
        ("captures", |n| of("", &format!("/v1/{{id}}/r{n}")), |n| Request::new("h", &format!("/v1/42/r{n}"))),
        (
            "one header",
            |n| Match { path: path("/v1/*"), ..with_header(TENANT, &format!("t{n}")) },
            |n| Request::new("h", "/v1/x").header(TENANT, &format!("t{n}")),
        ),
        (
            "identities",
            |n| Match { from: Some(FromMatch::Exact(format!("spiffe://a/svc/{n}"))), ..Match::default() },
            |n| Request { from: Some(format!("spiffe://a/svc/{n}")), ..Request::new("h", "/") },
        ),
    ];
    for (name, route, request) in cases {
        let costs: Vec<f64> = [10, 5000]
            .map(|count| {
                let routes: Vec<Match> = (0..count).map(route).collect();
                // The same ten requests over the whole list, so that what is compared is the lookup and not the cache.
                let requests: Vec<Request> = (0..10).map(|n| request(n * count / 10)).collect();
                cost(&routes, &requests)
            })
            .to_vec();
        println!("{name}: {:.0} ns among 10, {:.0} ns among 5000", costs[0], costs[1]);
        assert!(costs[1] < costs[0] * 2.0 + 100.0, "{name}: {costs:?}");
    }
}

const TENANT: &str = "x-tenant";

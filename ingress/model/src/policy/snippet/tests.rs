use std::collections::BTreeSet;

use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use proptest::prelude::*;

use super::*;
use crate::fields::Fields;

/// Reads a snippet that is used alone.
fn reading(kind: Kind, text: &str) -> Result<(Snippet, Vec<SnippetFault>), Vec<SnippetFault>> {
    read(kind, text, &names_of(text))
}

/// `line:column directive: cause` of everything that is wrong.
fn faults(kind: Kind, text: &str) -> Vec<String> {
    let faults = reading(kind, text).err().unwrap_or_default();
    for fault in &faults {
        assert!(!fault.remedy.is_empty(), "{fault:?}");
    }
    let line = |f: &SnippetFault| format!("{}:{} {}: {}", f.at.line, f.at.column, f.directive, f.cause);
    faults.iter().map(line).collect()
}

const HEADERS: [(&str, &str); 6] = [
    ("user-agent", "curl/8"),
    ("x-tenant", "acme"),
    ("x-forwarded-for", "10.0.0.9"),
    ("cookie", "session=s; a=1"),
    ("x-list", "one"),
    ("x-list", "two"),
];

/// Runs a text as a location for `GET path?query` and gives what became of it.
fn run<T>(text: &str, target: &str, then: impl FnOnce(&Memory, &End, &Holding<'_>, &Scene<'_>) -> T) -> T {
    let mut headers = HeaderMap::new();
    for (name, value) in HEADERS {
        headers.append(name, HeaderValue::from_static(value));
    }
    let headers = Fields::from(&headers);
    let facts = Facts {
        host: "h.test",
        authority: "h.test:81",
        scheme: "http",
        outer_scheme: "http",
        request_uri: target,
        path: "/",
        method: Some(&Method::GET),
        client: Some([192, 0, 2, 1].into()),
        headers: Some(&headers),
        request_id: "id",
        dice: 0,
        no_arguments: false,
        place: ["shop", "web", "api", "80"],
        tls: None,
    };
    let scene = Scene { facts, version: Version::HTTP_11, user: "ann" };
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let mut memory = Memory::new(crate::policy::decoded(path).into_owned(), query);
    let (snippet, _) = reading(Kind::Configuration, text).unwrap_or_else(|faults| panic!("{text}: {faults:?}"));
    let ran = snippet.level.run(&mut memory, &scene).unwrap();
    let holding = Holding { server: None, location: Some(&snippet.level.settings), inner: ran.settings };
    then(&memory, &ran.end, &holding, &scene)
}

/// `status`, `status text`, `status -> place`, or `path?query` with `!` where the phase was ended.
fn outcome(text: &str, target: &str) -> String {
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    run(text, target, |memory, end, _, _| match end {
        End::Said(said) => match (&said.text, &said.location) {
            (_, Some(place)) => format!("{} -> {}", said.status.as_u16(), shown(place)),
            (Some(text), _) => format!("{} {}", said.status.as_u16(), shown(text)),
            (None, None) => said.status.as_u16().to_string(),
        },
        end => {
            let query = memory.arguments();
            let path = shown(memory.path()) + if query.is_empty() { "" } else { "?" } + &shown(query);
            path + if *end == End::Stopped { "!" } else { "" } + if memory.seeks() { " seeks" } else { "" }
        }
    })
}

#[test]
fn directives_run_in_their_order_until_one_ends_it() {
    for (text, target, expected) in [
        ("return 403;", "/", "403"),
        ("return 200 'hi $http_x_tenant';", "/", "200 hi acme"),
        ("return 301 https://$host$request_uri;", "/a?b=c", "301 -> https://h.test/a?b=c"),
        ("return $scheme://new.test$uri;", "/a%20b", "302 -> http://new.test/a b"),
        ("return 308 /x;", "/", "308 -> /x"),
        ("set $a 1; set $a ${a}2; return 200 $a;", "/", "200 12"),
        ("if ($http_x_deny) { return 403; }", "/", "/"),
        ("if ($http_x_tenant) { return 403; }", "/", "403"),
        ("set $a 0; if ($a) { return 403; }", "/", "/"),
        ("if ($arg_x = 1) { return 403; }", "/?y=2&X=1", "403"),
        ("if ($http_x_tenant != acme) { return 403; }", "/", "/"),
        ("if ($http_user_agent ~ CURL) { return 403; }", "/", "/"),
        ("if ($http_user_agent ~* CURL/(\\d)) { return 200 v$1; }", "/", "200 v8"),
        ("if ($http_user_agent !~* \"firefox|chrome\") { return 403; }", "/", "403"),
        ("if ($http_user_agent !~ curl) { return 403; }", "/", "/"),
        ("if ( $request_method = \"GET\" ) { return 405; }", "/", "405"),
        ("if ($cookie_session = s) { set $ok 1; } if ($ok) { return 204; }", "/", "204"),
        ("if ($http_user_agent ~ (?<agent>\\w+)/) { return 200 $agent; }", "/", "200 curl"),
        (
            "set $c $http_x_tenant; if ($c = acme) { set $to a; } if ($c = other) { set $to b; } return 200 $to;",
            "/",
            "200 a",
        ),
        ("if ($http_x_tenant = \"\") { return 401; }", "/", "/"),
        ("if ($http_none = \"\") { return 401; }", "/", "401"),
        ("break; return 403;", "/", "/!"),
        ("if ($uri = /) { break; } return 403;", "/", "/!"),
    ] {
        assert_eq!(outcome(text, target), expected, "{text}");
    }
}

#[test]
fn paths_are_rewritten_as_nginx_does() {
    for (text, target, expected) in [
        ("rewrite ^/old/(.*)$ /new/$1;", "/old/x?q=1", "/new/x?q=1 seeks"),
        ("rewrite ^/old/(.*)$ /new/$1;", "/other", "/other"),
        ("rewrite ^/a$ /b; rewrite ^/b$ /c last; return 403;", "/a", "/c! seeks"),
        ("rewrite ^/a$ /b break; return 403;", "/a", "/b!"),
        ("rewrite ^/a$ /b; break;", "/a", "/b!"),
        ("rewrite ^/a/(.*)$ /b?p=$1 break;", "/a/x%26y?q=1", "/b?p=x%26y&q=1!"),
        ("rewrite ^/a$ /b? break;", "/a?q=1", "/b!"),
        ("rewrite ^/a$ /b?x=1? break;", "/a?q=1", "/b?x=1!"),
        ("rewrite ^/old/(.*)$ /new/$1 permanent;", "/old/a%20b?q=1", "301 -> /new/a%20b?q=1"),
        ("rewrite ^(.*)$ https://n.test$1? redirect;", "/x?q=1", "302 -> https://n.test/x"),
        ("rewrite ^/x$ $scheme://n.test/y;", "/x", "302 -> http://n.test/y"),
        ("rewrite ^/x$ https://n.test/y permanent;", "/x", "301 -> https://n.test/y"),
        ("rewrite /X /y break;", "/x", "/x"),
        ("rewrite (?i)/X /y break;", "/x", "/y!"),
        ("if ($http_x_tenant ~ (.*)) { rewrite ^/(.*)$ /t/$1 break; }", "/p", "/t/p!"),
        ("set $args a=1;", "/p?b=2", "/p?a=1"),
    ] {
        assert_eq!(outcome(text, target), expected, "{text}");
    }
}

#[test]
fn variables_stand_for_what_the_request_says() {
    for (name, expected) in [
        ("$host|$http_host|$best_http_host|$server_name", "h.test|h.test:81|h.test:81|h.test"),
        ("$uri|$document_uri|$request_uri", "/a b|/a b|/a%20b?x=1&y"),
        ("$args|$query_string|$is_args|$arg_x|$arg_none", "x=1&y|x=1&y|?|1|"),
        ("$scheme|$https|$server_port|$server_protocol", "http||80|HTTP/1.1"),
        ("$remote_addr|$proxy_add_x_forwarded_for", "192.0.2.1|10.0.0.9, 192.0.2.1"),
        ("$remote_user|$request_method|$request_id|$req_id", "ann|GET|id|id"),
        ("$request", "GET /a%20b?x=1&y HTTP/1.1"),
        ("$http_x_list|$http_cookie|$cookie_a", "one, two|session=s; a=1|1"),
        ("$namespace/$ingress_name/$service_name", "shop/web/api"),
        ("$upstream_http_x|$sent_http_x|$status", "||"),
        ("a\\$b", ""),
    ] {
        if expected.is_empty() {
            assert!(!faults(Kind::Configuration, &format!("return 200 \"{name}\";")).is_empty(), "{name}");
            continue;
        }
        assert_eq!(outcome(&format!("return 200 \"{name}\";"), "/a%20b?x=1&y"), format!("200 {expected}"), "{name}");
    }
}

/// The fields of a response to a request that passed a location with this text.
fn response(text: &str, status: u16, fields: &[(&'static str, &'static str)]) -> Vec<String> {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(*name, HeaderValue::from_static(value));
    }
    let upstream = headers.clone();
    run(text, "/p", |memory, _, holding, scene| {
        let mut effects = holding.effects(memory, scene, 784_111_777).unwrap();
        effects.settle(None);
        effects.apply(StatusCode::from_u16(status).unwrap(), Some(&upstream), &mut headers);
    });
    let line = |(name, value): (&http::HeaderName, &HeaderValue)| format!("{name}: {}", value.to_str().unwrap());
    let mut lines: Vec<String> = headers.iter().map(line).collect();
    lines.sort();
    lines
}

type Lines = &'static [(&'static str, &'static str)];

#[test]
fn fields_of_responses_are_changed_by_status_and_type() {
    const HTML: (&str, &str) = ("content-type", "text/html; charset=utf-8");
    let cases: &[(&str, u16, Lines, &[&str])] = &[
        ("add_header X-A 1;", 200, &[("x-a", "0")], &["x-a: 0", "x-a: 1"]),
        ("add_header X-A 1;", 404, &[], &[]),
        ("add_header X-A 1 always;", 404, &[], &["x-a: 1"]),
        ("add_header X-A $http_none;", 200, &[], &[]),
        ("add_header X-A $upstream_http_x_b-$status;", 201, &[("x-b", "b")], &["x-a: b-201", "x-b: b"]),
        ("add_header X-A 1; if ($uri) { add_header X-B 2; }", 200, &[], &["x-b: 2"]),
        ("add_header X-A 1; if ($uri) { set $x 1; }", 200, &[], &["x-a: 1"]),
        ("if ($uri) { add_header X-A 1; } if ($host) { add_header X-B 2; }", 200, &[], &["x-b: 2"]),
        ("more_set_headers 'X-A: 1' \"X-B: $host\";", 503, &[("x-a", "0")], &["x-a: 1", "x-b: h.test"]),
        ("more_set_headers -s '404 500' -s 503 'X-A: 1';", 503, &[], &["x-a: 1"]),
        ("more_set_headers -s '404 500' 'X-A: 1';", 200, &[], &[]),
        (
            "more_set_headers -t 'text/plain text/html' 'X-A: 1';",
            200,
            &[HTML],
            &["content-type: text/html; charset=utf-8", "x-a: 1"],
        ),
        ("more_set_headers -t text/css 'X-A: 1';", 200, &[HTML], &["content-type: text/html; charset=utf-8"]),
        ("more_set_headers -a 'Link: b';", 200, &[("link", "a")], &["link: a", "link: b"]),
        ("more_set_headers 'Server:';", 200, &[("server", "x")], &[]),
        ("more_set_headers 'Server: own';", 200, &[("server", "x")], &["server: own"]),
        (
            "more_clear_headers Server 'X-Hidden-*';",
            200,
            &[("server", "x"), ("x-hidden-a", "1"), ("x-b", "2")],
            &["x-b: 2"],
        ),
        (
            "more_set_headers 'X-A: 1'; if ($uri) { more_set_headers 'X-B: $sent_http_x_a'; }",
            200,
            &[],
            &["x-a: 1", "x-b: 1"],
        ),
        ("more_clear_headers X-A; add_header X-A 1;", 200, &[("x-a", "0")], &["x-a: 1"]),
        (
            "expires 24h;",
            200,
            &[("cache-control", "x")],
            &["cache-control: max-age=86400", "expires: Mon, 07 Nov 1994 08:49:37 GMT"],
        ),
        ("expires 24h;", 404, &[], &[]),
        ("expires -1;", 200, &[], &["cache-control: no-cache", "expires: Sun, 06 Nov 1994 08:49:36 GMT"]),
        ("expires epoch;", 200, &[], &["cache-control: no-cache", "expires: Thu, 01 Jan 1970 00:00:01 GMT"]),
        ("expires max;", 200, &[], &["cache-control: max-age=315360000", "expires: Thu, 31 Dec 2037 23:55:55 GMT"]),
        ("expires off;", 200, &[], &[]),
        ("expires 0;", 304, &[], &["cache-control: max-age=0", "expires: Sun, 06 Nov 1994 08:49:37 GMT"]),
        (
            "set $e 30d; expires $e;",
            200,
            &[],
            &["cache-control: max-age=2592000", "expires: Tue, 06 Dec 1994 08:49:37 GMT"],
        ),
        (
            "expires 1d; if ($uri ~ p) { expires epoch; }",
            200,
            &[],
            &["cache-control: no-cache", "expires: Thu, 01 Jan 1970 00:00:01 GMT"],
        ),
        (
            "expires modified +1h;",
            200,
            &[("last-modified", "Sun, 06 Nov 1994 08:29:37 GMT")],
            &[
                "cache-control: max-age=2400",
                "expires: Sun, 06 Nov 1994 09:29:37 GMT",
                "last-modified: Sun, 06 Nov 1994 08:29:37 GMT",
            ],
        ),
    ];
    for (text, status, fields, expected) in cases {
        assert_eq!(response(text, *status, fields), *expected, "{text} {status}");
    }
}

#[test]
fn fields_of_requests_are_changed_before_anybody_sees_them() {
    let input = |text: &str| {
        run(text, "/p", |memory, _, holding, scene| {
            let headers = &scene.facts.headers.unwrap().to_map();
            let changed = holding.input(headers, memory, scene).unwrap().unwrap_or_else(|| headers.clone());
            let lines = changed.iter().filter(|(name, _)| name.as_str().starts_with("x-"));
            lines.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect::<BTreeSet<_>>()
        })
    };
    let all = ["x-forwarded-for: 10.0.0.9", "x-list: one", "x-list: two", "x-tenant: acme"];
    let set = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(input("set $a 1;"), set(&all));
    assert_eq!(input("more_set_input_headers 'X-List: $http_x_tenant';"), set(&[all[0], "x-list: acme", all[3]]));
    assert_eq!(
        input("more_set_input_headers -r 'X-None: 1' 'X-Tenant: b';"),
        set(&[all[0], all[1], all[2], "x-tenant: b"])
    );
    assert_eq!(input("more_clear_input_headers 'X-L*' X-Tenant;"), set(&all[..1]));
    assert_eq!(input("more_set_input_headers -t text/css 'X-Tenant: b';"), set(&all));
    assert_eq!(input("if ($uri) { more_set_input_headers 'X-Tenant:'; }"), set(&all[..3]));
}

#[test]
fn what_the_service_says_is_filled_in_afterwards() {
    let text = "auth_request_set $user $upstream_http_x_user; auth_request_set $again \"$user!\"; \
                proxy_set_header X-User $user; proxy_set_header X-Empty ''; add_header X-Again $again always;";
    run(text, "/", |memory, _, holding, scene| {
        let mut said = HeaderMap::new();
        said.insert("x-user", HeaderValue::from_static("ann"));
        let mut effects = holding.effects(memory, scene, 0).unwrap();
        let fields = effects.settle(Some((StatusCode::OK, &said)));
        let field = |name: &'static str, value: Option<&'static str>| {
            (http::HeaderName::from_static(name), value.map(HeaderValue::from_static))
        };
        assert_eq!(fields, [field("x-user", Some("ann")), field("x-empty", None)]);
        let mut headers = HeaderMap::new();
        effects.apply(StatusCode::NOT_FOUND, None, &mut headers);
        assert_eq!(headers.get("x-again").map(HeaderValue::as_bytes), Some(&b"ann!"[..]));
    });
}

#[test]
fn the_first_rule_about_an_address_decides() {
    let verdict =
        |text: &str, client: &str| run(text, "/", |_, _, holding, _| holding.verdict(client.parse().unwrap()));
    let text = "deny 10.1.0.0/16; allow 10.0.0.0/8; allow 2001:db8::/32; deny all;";
    assert_eq!(verdict(text, "10.1.2.3"), Some(Verdict::Denied));
    assert_eq!(verdict(text, "10.2.2.3"), Some(Verdict::Allowed));
    assert_eq!(verdict(text, "::ffff:10.2.2.3"), Some(Verdict::Allowed));
    assert_eq!(verdict(text, "2001:db8::1"), Some(Verdict::Allowed));
    assert_eq!(verdict(text, "192.0.2.1"), Some(Verdict::Denied));
    assert_eq!(verdict("deny 10.1.0.0/16;", "192.0.2.1"), None);
}

#[test]
fn location_blocks_are_chosen_as_nginx_chooses() {
    let text = "location = /a { return 201; } location /a { return 202; } location ^~ /static/ { return 203; } \
                location ~ \\.php$ { return 204; } location ~* \\.(JPG|png)$ { return 205; } location /long/path { return 206; }";
    let (snippet, _) = reading(Kind::Server, text).unwrap();
    let taken = |path: &str, rules| {
        let mut memory = Memory::new(path.into(), None);
        snippet.locate(&mut memory, rules).map(|location| location.at.at.column)
    };
    let place = |text_of: &str| u32::try_from(text.find(text_of).unwrap() + 1).ok();
    for (path, rules, expected) in [
        ("/a", Nearest::Exact, place("location = /a")),
        ("/ab", Nearest::Prefix(1), place("location /a")),
        ("/ab", Nearest::Prefix(3), None),
        ("/ab", Nearest::Exact, None),
        ("/ab", Nearest::Regex, None),
        ("/static/x.php", Nearest::Prefix(1), place("location ^~")),
        ("/static/x.php", Nearest::Regex, place("location ^~")),
        ("/x.php", Nearest::Regex, place("location ~ ")),
        ("/long/path/x.JPG", Nearest::Prefix(1), place("location ~* ")),
        ("/long/path/x", Nearest::Prefix(1), place("location /long")),
        ("/other", Nearest::NONE, None),
    ] {
        assert_eq!(taken(path, rules), expected, "{path} {rules:?}");
    }
}

#[test]
fn what_is_not_run_is_refused_by_its_name_and_place() {
    for (text, expected) in [
        (
            "more_set_headers 'A: b';\n  proxy_pass http://x;",
            "2:3 proxy_pass: proxy_pass is no directive that a snippet may hold here",
        ),
        (
            "content_by_lua_block { ngx.say(1) }",
            "1:1 content_by_lua_block: content_by_lua_block holds Lua, which is not run",
        ),
        ("if ($a) { return 403; }", "1:1 if: $a is no variable that is known here"),
        ("if ($http_a) {\n\n proxy_set_header A b; }", "3:2 proxy_set_header: nginx does not take it within this if"),
        ("if ($uri) { if ($host) { break; } }", "1:13 if: nginx takes no if within an if"),
        ("if ($request_filename ~ x) { break; }", "1:1 if: $request_filename is no variable that is known here"),
        ("if (-f $uri) { break; }", "1:1 if: there are no files to look at"),
        (
            "if ($uri ~ \"(?=x)\") { break; }",
            "1:1 if: the regular expression can't be used (look-around, including look-ahead and look-behind, is not supported)",
        ),
        ("location /x { return 200; }", "1:1 location: a location can't stand here"),
        ("set $host x;", "1:1 set: $host says something of the request and can't be set"),
        ("set host x;", "1:1 set: \"host\" is no variable"),
        ("return 1000;", "1:1 return: 1000 is no status"),
        ("return 301;", "1:1 return: it does not say where to"),
        ("return;", "1:1 return: it can't be read"),
        ("rewrite ^/a$ b;", "1:1 rewrite: the replacement is no path"),
        ("rewrite ^/a$ /b always;", "1:1 rewrite: \"always\" is no flag"),
        ("add_header X-A 1 sometimes;", "1:1 add_header: its words can't be read"),
        ("add_header 'X A' 1;", "1:1 add_header: \"X A\" is no name of a field"),
        (
            "add_header X-A 'a\\nSet-Cookie: b';",
            "1:1 add_header: the value has a line break or another control character",
        ),
        (
            "more_set_headers 'Content-Length: 1';",
            "1:1 more_set_headers: Content-Length says how a message is sent, which is decided for each message",
        ),
        ("more_clear_headers '*';", "1:1 more_clear_headers: * would clear what messages need"),
        (
            "more_set_input_headers 'Host: x';",
            "1:1 more_set_input_headers: the host of a request can't be changed here",
        ),
        ("more_set_headers -x 'A: b';", "1:1 more_set_headers: -x is no option of more_set_headers"),
        ("allow unix:;", "1:1 allow: \"unix:\" is neither a network nor an address"),
        ("expires soon;", "1:1 expires: its words can't be read"),
        (
            "proxy_set_header Transfer-Encoding x;",
            "1:1 proxy_set_header: Transfer-Encoding says how a message is sent, which is decided for each message",
        ),
        (
            "proxy_read_timeout 5;",
            "1:1 proxy_read_timeout: proxy_read_timeout is no directive that a snippet may hold here",
        ),
    ] {
        assert_eq!(faults(Kind::Configuration, text), [expected], "{text}");
    }
    let remedy = |text: &str| reading(Kind::Configuration, text).unwrap_err()[0].remedy.clone();
    assert_eq!(remedy("proxy_read_timeout 5;"), "use the annotation proxy-read-timeout");
    assert_eq!(remedy("limit_req zone=a;"), "use the annotation limit-rps");
    assert_eq!(faults(Kind::Auth, "add_header A b;"), ["1:1 add_header: it can't stand in auth-snippet"]);
    assert_eq!(faults(Kind::Server, "if ($uri) { add_header A b; }").len(), 1);
    let several = "foo 1; bar 2; set $a 1; baz 3;";
    assert_eq!(faults(Kind::Server, several).len(), 3);
    assert_eq!(faults(Kind::Server, &"foo;".repeat(100)).len(), 8);
}

#[test]
fn what_makes_no_difference_is_taken_and_told_of() {
    let text = "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; \
                proxy_buffering off; add_header X-A b;";
    let (_, notes) = reading(Kind::Configuration, text).unwrap();
    assert_eq!(notes.len(), 4, "{notes:?}");
}

#[test]
fn values_do_not_grow_without_end() {
    let text = format!("set $a 0123456789abcdef; {} return 200 $a;", "set $a $a$a;".repeat(40));
    let (snippet, _) = reading(Kind::Configuration, &text).unwrap();
    let scene = Scene { facts: Facts::default(), version: Version::HTTP_11, user: "" };
    assert_eq!(snippet.level.run(&mut Memory::default(), &scene).map(|ran| ran.end), Err(TooLong));
}

#[test]
fn names_are_shared_between_snippets_that_are_used_together() {
    let names = names_of("set $tenant $host; if ($uri ~ ^/(?<first>[a-z]+)/) { break; } set $uri x;");
    assert_eq!(names.iter().map(|name| &**name).collect::<Vec<_>>(), ["first", "tenant"]);
    assert!(read(Kind::Configuration, "more_set_headers 'X-T: $tenant';", &names).is_ok());
    assert!(read(Kind::Configuration, "more_set_headers 'X-T: $other';", &names).is_err());
}

/// Texts that are mostly snippets.
fn snippets() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("$uri"),
        Just("$a"),
        Just("$1"),
        Just("$http_x_tenant"),
        Just("$args"),
        Just("/x"),
        Just("^/(.*)$"),
        Just("'X-A: $a$1'"),
        Just("X-A"),
        Just("403"),
        Just("301"),
        Just("always"),
        Just("last"),
        Just("break"),
        Just("="),
        Just("~*"),
        Just("($uri"),
        Just("x)"),
        Just("24h"),
        Just("-1"),
        Just("all"),
        Just("10.0.0.0/8"),
        Just("https://h/$1?x=$2"),
        Just("\"%0d $upstream_http_x\""),
        Just("$sent_http_y"),
        Just("-s"),
        Just("epoch"),
    ];
    let name = prop_oneof![
        Just("set $a"),
        Just("set $args"),
        Just("return"),
        Just("return 301"),
        Just("rewrite ^/(.*)$"),
        Just("break"),
        Just("add_header X-A"),
        Just("more_set_headers"),
        Just("more_clear_headers"),
        Just("expires"),
        Just("more_set_input_headers"),
        Just("proxy_set_header X-B"),
        Just("allow"),
        Just("deny"),
        Just("auth_request_set $b"),
        Just("proxy_hide_header"),
    ];
    let plain =
        (name, prop::collection::vec(word, 0..3)).prop_map(|(name, words)| format!("{name} {};", words.join(" ")));
    let block = (
        prop_oneof![
            Just("if ($uri)"),
            Just("if ($a ~* (x))"),
            Just("if ($1 != $uri)"),
            Just("location ~ ^/(a)"),
            Just("location /")
        ],
        prop::collection::vec(plain.clone(), 0..3),
    );
    let block = block.prop_map(|(head, inner)| format!("{head} {{ {} }}", inner.join(" ")));
    prop::collection::vec(prop_oneof![3 => plain, 1 => block], 0..6).prop_map(|parts| parts.join("\n"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_program_makes_a_request_panic(text in snippets(), target in "/[a-z%./?&=]{0,12}") {
        let client = [192, 0, 2, 1].into();
        for kind in [Kind::Configuration, Kind::Server, Kind::Auth] {
            if let Ok((snippet, _)) = reading(kind, &text) {
                let mut headers = HeaderMap::new();
                headers.insert("x-tenant", HeaderValue::from_static("a"));
                let headers = Fields::from(&headers);
                let facts = Facts { request_uri: &target, headers: Some(&headers), ..Facts::default() };
                let scene = Scene { facts, version: Version::HTTP_2, user: "" };
                let mut memory = Memory::new(target.clone().into_bytes(), Some("x=1"));
                let _ = snippet.rehearse(&scene, &mut memory, client);
            }
        }
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "[a-z$ (){};'\"=~/.*^\\\\\n]{0,60}") {
        for kind in [Kind::Configuration, Kind::Server, Kind::Auth, Kind::ServerOption] {
            let _ = reading(kind, &text);
        }
    }
}

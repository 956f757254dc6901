//! The directives that hold without running: fields, lists of addresses, how long a response is fresh.

use http::header::{CONNECTION, CONTENT_LENGTH, DATE, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderName, HeaderValue};

use super::{Context, Reader, Wrong, wrong};
use crate::access::range;
use crate::policy::snippet::settings::{Change, Expires, Field, Lifetime, Manner, Settings, Verdict, seconds};
use crate::policy::snippet::syntax::Word;

/// What becomes of a directive.
pub(super) enum Taken {
    Yes,
    /// It is known, and has no effect there.
    WithoutEffect(&'static str),
    /// It is not known.
    No,
}

/// Fields that say where a message ends or how the connection is used, which is decided for each message.
const FRAMING: [HeaderName; 6] = [CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION, UPGRADE, TE, TRAILER];

impl Reader<'_> {
    pub(super) fn setting(
        &mut self,
        name: &str,
        words: &[Word],
        context: Context,
        settings: &mut Settings,
    ) -> Result<Taken, Wrong> {
        use Context::{Auth, AuthIf, Location, LocationIf, Server};
        let places: &[Context] = match name {
            "add_header" | "expires" | "more_set_headers" | "more_clear_headers" => &[Server, Location, LocationIf],
            "more_set_input_headers" | "more_clear_input_headers" => &[Server, Location, LocationIf, Auth, AuthIf],
            "proxy_set_header" => &[Server, Location, Auth],
            "proxy_hide_header" | "proxy_pass_header" | "allow" | "deny" | "auth_request_set" | "default_type" => {
                &[Server, Location]
            }
            _ => return Ok(Taken::No),
        };
        if !places.contains(&context) {
            return Err(match context {
                Auth | AuthIf => wrong("it can't stand in auth-snippet", "put it into configuration-snippet"),
                _ => wrong("nginx does not take it within this if", "put it outside of the if"),
            });
        }
        match name {
            "add_header" => self.add_header(words, settings),
            "expires" => {
                settings.expires = Some(self.expires(words)?);
                Ok(Taken::Yes)
            }
            "more_set_headers" | "more_clear_headers" => {
                settings.more.extend(self.changes(name, words, Side::Response)?);
                Ok(Taken::Yes)
            }
            "more_set_input_headers" | "more_clear_input_headers" => {
                settings.input.extend(self.changes(name, words, Side::Request)?);
                Ok(Taken::Yes)
            }
            "proxy_set_header" => self.proxy_set_header(words, context, settings),
            "proxy_hide_header" | "proxy_pass_header" => {
                let [word] = words else { return Err(usage(name, "NAME")) };
                let list = if name == "proxy_hide_header" { &mut settings.hide } else { &mut settings.pass };
                list.push(field_name(&word.text)?);
                Ok(Taken::Yes)
            }
            "allow" | "deny" => {
                let [word] = words else { return Err(usage(name, "ADDRESS | NETWORK | all")) };
                let net = match word.text.as_str() {
                    "all" => None,
                    text => Some(range(text).ok_or_else(|| {
                        wrong(
                            format!("{text:?} is neither a network nor an address"),
                            format!("write {name} 10.0.0.0/8; or {name} all;"),
                        )
                    })?),
                };
                let verdict = if name == "allow" { Verdict::Allowed } else { Verdict::Denied };
                settings.access.push((verdict, net));
                Ok(Taken::Yes)
            }
            "auth_request_set" => {
                let [variable, value] = words else { return Err(usage(name, "$variable $upstream_http_NAME")) };
                settings.auth.push((self.own_name(variable)?, self.value(&value.text)?));
                Ok(Taken::Yes)
            }
            _ => {
                let [word] = words else { return Err(usage(name, "TYPE")) };
                let value = HeaderValue::from_str(&word.text);
                settings.default_type = Some(value.map_err(|_| usage(name, "TYPE"))?);
                Ok(Taken::Yes)
            }
        }
    }

    fn add_header(&self, words: &[Word], settings: &mut Settings) -> Result<Taken, Wrong> {
        let (name, value, always) = match words {
            [name, value] => (name, value, false),
            [name, value, always] if always.text == "always" => (name, value, true),
            _ => return Err(usage("add_header", "NAME VALUE [always]")),
        };
        let name = response_field(&name.text)?;
        settings.add.push((name, self.field_value(&value.text)?, always));
        Ok(Taken::Yes)
    }

    fn proxy_set_header(&self, words: &[Word], context: Context, settings: &mut Settings) -> Result<Taken, Wrong> {
        let [name, value] = words else { return Err(usage("proxy_set_header", "NAME VALUE")) };
        let field = field_name(&name.text)?;
        if field == CONNECTION || field == UPGRADE {
            return Ok(Taken::WithoutEffect(
                "connections to backends are kept, and upgrades are passed on, by themselves",
            ));
        }
        if FRAMING.contains(&field) {
            return Err(framing(&name.text));
        }
        let value = self.field_value(&value.text)?;
        if field == HOST && context == Context::Auth {
            return Err(wrong("the Host of the service is that of auth-url", "write another auth-url"));
        }
        if context == Context::Server {
            return Ok(Taken::WithoutEffect("in ingress-nginx a location has fields of its own, so it inherits none"));
        }
        settings.set.push((field, value));
        Ok(Taken::Yes)
    }

    fn expires(&self, words: &[Word]) -> Result<Expires, Wrong> {
        let usage = || usage("expires", "24h | -1 | epoch | max | off");
        match words {
            [word] if word.text.starts_with('$') => Ok(Expires::Variable(self.value(&word.text)?)),
            [word] => Lifetime::parse(&word.text).map(Expires::Fixed).ok_or_else(usage),
            [modified, word] if modified.text == "modified" => {
                seconds(&word.text).map(|seconds| Expires::Fixed(Lifetime::Modified(seconds))).ok_or_else(usage)
            }
            _ => Err(usage()),
        }
    }

    /// `[-s statuses] [-t types] [-a | -r] 'Name: value' …`
    fn changes(&self, directive: &str, words: &[Word], side: Side) -> Result<Vec<Change>, Wrong> {
        let (mut statuses, mut types, mut manner) = (Vec::new(), Vec::new(), Manner::Set);
        let mut fields = Vec::new();
        let mut words = words.iter().map(|word| word.text.as_str());
        while let Some(word) = words.next() {
            match (word, side) {
                ("-s", Side::Response) => {
                    for status in words.next().unwrap_or_default().split_ascii_whitespace() {
                        let status = status.parse().ok().filter(|status| (100..=999).contains(status));
                        statuses.push(status.ok_or_else(|| usage(directive, "-s '404 500' 'Name: value'"))?);
                    }
                }
                ("-t", _) => types.extend(words.next().unwrap_or_default().split_ascii_whitespace().map(Into::into)),
                ("-a", Side::Response) => manner = Manner::Append,
                ("-r", Side::Request) => manner = Manner::Replace,
                (option, _) if option.starts_with('-') => {
                    return Err(wrong(format!("{option} is no option of {directive}"), "remove it"));
                }
                (field, _) => fields.push(self.change(directive, field, side)?),
            }
        }
        if fields.is_empty() {
            return Err(usage(directive, "'Name: value'"));
        }
        let (statuses, types) = (statuses.into_boxed_slice(), types.into_boxed_slice());
        let change = |field| Change { statuses: statuses.clone(), types: types.clone(), manner, field };
        Ok(fields.into_iter().map(change).collect())
    }

    fn change(&self, directive: &str, text: &str, side: Side) -> Result<Field, Wrong> {
        let (name, value) = text.split_once(':').unwrap_or((text, ""));
        let (name, value) = (name.trim(), value.trim_start_matches([' ', '\t']));
        let clears = directive.contains("clear") || value.is_empty();
        if let (true, Some(prefix)) = (clears, name.strip_suffix('*')) {
            let prefix = prefix.to_ascii_lowercase();
            let touches = FRAMING.iter().chain([&HOST, &DATE]).any(|field| field.as_str().starts_with(&prefix));
            if touches {
                return Err(wrong(format!("{name} would clear what messages need"), "write the fields by their names"));
            }
            return Ok(Field::ClearAll(prefix.into()));
        }
        let field = match side {
            Side::Response => response_field(name)?,
            Side::Request => request_field(name)?,
        };
        Ok(if clears { Field::Clear(field) } else { Field::Set(field, self.field_value(value)?) })
    }

    /// A value of a field, whose text may hold what fields may.
    fn field_value(&self, text: &str) -> Result<crate::policy::snippet::value::Value, Wrong> {
        if text.bytes().any(|byte| byte != b'\t' && (byte < 0x20 || byte == 0x7f)) {
            return Err(wrong("the value has a line break or another control character", "write it in one line"));
        }
        self.value(text)
    }
}

/// Whose fields are changed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Request,
    Response,
}

fn usage(name: &str, words: &str) -> Wrong {
    wrong("its words can't be read", format!("write {name} {words};"))
}

fn framing(name: &str) -> Wrong {
    wrong(format!("{name} says how a message is sent, which is decided for each message"), "remove it")
}

fn field_name(text: &str) -> Result<HeaderName, Wrong> {
    let wrong = |_| wrong(format!("{text:?} is no name of a field"), "use letters, digits and -");
    HeaderName::try_from(text).map_err(wrong)
}

fn response_field(text: &str) -> Result<HeaderName, Wrong> {
    let name = field_name(text)?;
    if FRAMING.contains(&name) || name == DATE { Err(framing(text)) } else { Ok(name) }
}

fn request_field(text: &str) -> Result<HeaderName, Wrong> {
    let name = field_name(text)?;
    if name == HOST {
        return Err(wrong("the host of a request can't be changed here", "use the annotation upstream-vhost"));
    }
    if FRAMING.contains(&name) { Err(framing(text)) } else { Ok(name) }
}

//! Flags of ingress-nginx on a command line of ours: `controller.extraArgs` of an existing values file, or arguments
//! copied from its workload.

use std::collections::BTreeSet;
use std::ffi::OsString;

use clap::{CommandFactory, Parser};
use landfall_ingress_model::migration::{Effect, Flag, inherited};

use super::Cli;

/// Beginnings of switches, which are never followed by a value of their own.
const SWITCHES: [&str; 10] = [
    "disable-",
    "enable-",
    "metrics-per-",
    "update-status",
    "profiling",
    "report-",
    "sort-",
    "skip_",
    "force-",
    "exclude-",
];

/// Flags whose values have another form here.
const UNTRANSLATED: [&str; 6] =
    ["apiserver-host", "bind-addresses", "certificate-authority", "healthz-host", "kubeconfig", "root-ca-file"];

/// The arguments in our own words.
#[derive(Debug, Default, PartialEq)]
struct Words {
    arguments: Vec<OsString>,
    /// What flags that are taken don't do here.
    notes: Vec<String>,
    /// Why a flag can't be taken.
    refusal: Option<String>,
}

impl Cli {
    /// Reads the command line, on which ingress-nginx's flags may stand among our own. Ends the program where a flag
    /// can't be taken, as clap does.
    pub fn read() -> Self {
        let words = translated(std::env::args_os());
        for note in &words.notes {
            eprintln!("landfall-ingress: {note}");
        }
        if let Some(refusal) = words.refusal {
            Self::command().error(clap::error::ErrorKind::UnknownArgument, refusal).exit();
        }
        Self::parse_from(words.arguments)
    }
}

fn translated(arguments: impl IntoIterator<Item = OsString>) -> Words {
    let mut arguments = arguments.into_iter().peekable();
    let mut words = Words::default();
    words.arguments.extend(arguments.next());
    let Some(command) = arguments.peek().and_then(|name| name.to_str()).and_then(command_of) else {
        words.arguments.extend(arguments);
        return words;
    };
    let (known, switches) = names(&command);
    while let Some(word) = arguments.next() {
        let text = word.to_str().unwrap_or_default();
        let Some(text) = text.strip_prefix("--").or_else(|| text.strip_prefix("-v=").map(|_| "v")) else {
            words.arguments.push(word);
            continue;
        };
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value.to_owned())));
        if known.contains(name) {
            match (switches.contains(name), value.as_deref()) {
                // A switch of theirs may say so.
                (true, Some("true")) => words.arguments.push(format!("--{name}").into()),
                (true, Some("false")) => {}
                _ => words.arguments.push(word),
            }
            continue;
        }
        let follows = !SWITCHES.iter().any(|begin| name.starts_with(begin));
        let next = |next: &OsString| next.to_str().is_some_and(|next| !next.starts_with('-'));
        let flag = |value| Flag { name: name.to_owned(), value };
        let value = match value {
            Some(value) => value,
            None if follows && inherited(&flag(String::new())).is_some() => {
                arguments.next_if(next).and_then(|value| value.into_string().ok()).unwrap_or_else(|| "true".to_owned())
            }
            None => "true".to_owned(),
        };
        match inherited(&flag(value)) {
            None => words.arguments.push(word),
            Some((setting, ours)) => match setting.effect {
                Effect::Differs => {
                    let text = format!("--{name} of ingress-nginx: {}; {}", setting.text, setting.remedy);
                    words.refusal.get_or_insert(text);
                }
                Effect::Served if ours.is_empty() && UNTRANSLATED.contains(&name) => {
                    let text = format!("--{name} of ingress-nginx can't be translated; use {}", setting.text);
                    words.refusal.get_or_insert(text);
                }
                Effect::Served => words.arguments.extend(ours.into_iter().map(OsString::from)),
                _ => words.notes.push(format!("--{name} of ingress-nginx has no effect: {}", setting.text)),
            },
        }
    }
    words
}

/// The subcommand, where it is one that serves or shows what would be served.
fn command_of(name: &str) -> Option<clap::Command> {
    let serves = ["serve", "check", "explain"].contains(&name);
    Cli::command().find_subcommand(name).filter(|_| serves).cloned()
}

/// The names of our own flags, and which of them are switches.
fn names(command: &clap::Command) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut known, mut switches) = (BTreeSet::from(["help".to_owned()]), BTreeSet::new());
    for argument in command.get_arguments() {
        let names = argument.get_long_and_visible_aliases().unwrap_or_default();
        let names = names.into_iter().chain(argument.get_all_aliases().unwrap_or_default());
        let is_switch = matches!(argument.get_action(), clap::ArgAction::SetTrue);
        for name in names {
            known.insert(name.to_owned());
            if is_switch {
                switches.insert(name.to_owned());
            }
        }
    }
    (known, switches)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Words {
        translated(line.split(' ').map(OsString::from))
    }

    fn line(line: &str) -> String {
        let words = words(line);
        assert_eq!(words.refusal, None, "{line}");
        words.arguments.join(&OsString::from(" ")).into_string().unwrap()
    }

    #[test]
    fn flags_of_ingress_nginx_become_our_own() {
        for (theirs, ours) in [
            (
                "l serve --enable-ssl-passthrough=true --disable-catch-all",
                "l serve --enable-ssl-passthrough --disable-catch-all",
            ),
            ("l serve --enable-ssl-passthrough=false", "l serve"),
            ("l serve --watch-ingress-without-class=true", "l serve --watch-ingress-without-class"),
            ("l serve --election-id=leader --http-port 8080", "l serve --lease leader --http [::]:8080"),
            ("l serve --update-status=false --shutdown-grace-period=10", "l serve --no-status --lame-duck 10"),
            ("l serve --update-status=true --shutdown-grace-period=0", "l serve"),
            ("l serve --v=2 -v=3 --sync-period 1h --profiling --workers 2", "l serve --workers 2"),
            ("l serve --configmap=a/b --publish-service a/c", "l serve --configmap=a/b --publish-service a/c"),
            ("l check --validating-webhook=:8443 --manifests x", "l check --manifests x"),
            ("l serve --no-such-flag x", "l serve --no-such-flag x"),
            ("l tail --v=2", "l tail --v=2"),
            ("l", "l"),
        ] {
            assert_eq!(line(theirs), ours);
        }
        assert_eq!(words("l serve --metrics-per-host=false").notes.len(), 1);
    }

    #[test]
    fn what_can_not_be_had_is_refused_with_what_to_do_instead() {
        let refusal = |line| words(line).refusal.unwrap_or_default();
        assert!(refusal("l serve --watch-namespace-selector=a=b").contains("--watch-namespace"));
        assert!(refusal("l serve --annotations-prefix other.example").contains("rename"));
        assert!(refusal("l serve --apiserver-host=http://x").contains("KUBECONFIG"));
        assert_eq!(refusal("l serve --annotations-prefix=nginx.ingress.kubernetes.io"), "");
    }
}

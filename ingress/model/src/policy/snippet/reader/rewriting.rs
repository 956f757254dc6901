//! The directives that run: `set`, `if`, `return`, `rewrite` and `break`.

use http::StatusCode;

use super::{Reader, Wrong, wrong};
use crate::policy::snippet::script::{Action, Rewriting, Test, Then, What};
use crate::policy::snippet::syntax::Word;

impl Reader<'_> {
    pub(super) fn action(&self, name: &str, words: &[Word]) -> Result<Action, Wrong> {
        match (name, words) {
            ("break", []) => Ok(Action::Break),
            ("set", [variable, value]) if variable.text == "$args" => {
                Ok(Action::SetArguments(self.value(&value.text)?))
            }
            ("set", [variable, value]) => Ok(Action::Set(self.own_name(variable)?, self.value(&value.text)?)),
            ("return", words) => self.returning(words),
            ("rewrite", words) => self.rewriting(words),
            ("set", _) => Err(wrong("it needs a variable and a value", "write set $variable value;")),
            _ => Err(wrong("it takes no words", "write break;")),
        }
    }

    /// `return code [text | URL]` and `return URL`.
    fn returning(&self, words: &[Word]) -> Result<Action, Wrong> {
        let usage = || wrong("it can't be read", "write return CODE;, return CODE \"text\"; or return CODE URL;");
        let (code, text) = match words {
            [code] => (code, None),
            [code, text] => (code, Some(text)),
            _ => return Err(usage()),
        };
        let Ok(number) = code.text.parse::<u16>() else {
            let place = self.value(&code.text)?;
            if text.is_some() || !place.begins_with_scheme() {
                return Err(usage());
            }
            return Ok(Action::Return(StatusCode::FOUND, What::Location(place)));
        };
        let status = StatusCode::from_u16(number).ok().filter(|_| (200..=599).contains(&number));
        let status = status.ok_or_else(|| wrong(format!("{number} is no status"), "give one from 200 to 599"))?;
        let redirects = matches!(number, 301 | 302 | 303 | 307 | 308);
        let what = match text {
            Some(text) if redirects => What::Location(self.value(&text.text)?),
            Some(_) if number == 204 || number == 304 => {
                return Err(wrong(
                    format!("an answer with status {number} has no text"),
                    format!("write return {number};"),
                ));
            }
            Some(text) => What::Text(self.value(&text.text)?),
            None if redirects => {
                return Err(wrong("it does not say where to", format!("write return {number} URL;")));
            }
            None => What::Nothing,
        };
        Ok(Action::Return(status, what))
    }

    fn rewriting(&self, words: &[Word]) -> Result<Action, Wrong> {
        let (pattern, replacement, flag) = match words {
            [pattern, replacement] => (pattern, replacement, None),
            [pattern, replacement, flag] => (pattern, replacement, Some(flag.text.as_str())),
            _ => {
                let remedy = "write rewrite REGEX REPLACEMENT [last | break | redirect | permanent];";
                return Err(wrong("it needs a regular expression and a replacement", remedy));
            }
        };
        let then = match flag {
            None => Then::GoOn,
            Some("last") => Then::Last,
            Some("break") => Then::Break,
            Some("redirect") => Then::Redirect(StatusCode::FOUND),
            Some("permanent") => Then::Redirect(StatusCode::MOVED_PERMANENTLY),
            Some(other) => {
                return Err(wrong(format!("{other:?} is no flag"), "use last, break, redirect or permanent"));
            }
        };
        let (text, keeps) = match replacement.text.strip_suffix('?') {
            Some(text) => (text, false),
            None => (replacement.text.as_str(), true),
        };
        let (path, arguments) = match text.split_once('?') {
            Some((path, arguments)) => (path, Some(arguments)),
            None => (text, None),
        };
        let path = self.value(path)?;
        let then = match then {
            Then::GoOn | Then::Last | Then::Break if path.begins_with_scheme() => Then::Redirect(StatusCode::FOUND),
            then => then,
        };
        if !matches!(then, Then::Redirect(_))
            && (path.is_empty() || path.literal().is_some_and(|text| !text.starts_with('/')))
        {
            return Err(wrong("the replacement is no path", "begin it with / or with a scheme"));
        }
        let arguments = arguments.map(|arguments| self.value(arguments)).transpose()?;
        let pattern = Self::pattern(&pattern.text, false)?;
        Ok(Action::Rewrite(Box::new(Rewriting { pattern, path, arguments, keeps, then })))
    }

    /// The condition of an `if`, which is in parentheses that may stand apart from the words.
    pub(super) fn test(&self, words: &[Word]) -> Result<Test, Wrong> {
        let usage = || {
            wrong(
                "the condition can't be read",
                "write ($variable), ($variable = text) or ($variable ~ regex), with =, !=, ~, ~*, !~ or !~*",
            )
        };
        let mut texts: Vec<&str> = words.iter().map(|word| word.text.as_str()).collect();
        let first = texts.first_mut().ok_or_else(usage)?;
        *first = first.strip_prefix('(').ok_or_else(usage)?;
        let last = texts.last_mut().ok_or_else(usage)?;
        *last = last.strip_suffix(')').ok_or_else(usage)?;
        // A parenthesis that stands alone leaves nothing; a quoted empty text within is meant.
        if texts.first().is_some_and(|text| text.is_empty()) {
            texts.remove(0);
        }
        if texts.last().is_some_and(|text| text.is_empty()) {
            texts.pop();
        }
        let left = texts.first().copied().ok_or_else(usage)?;
        if matches!(left, "-f" | "!-f" | "-d" | "!-d" | "-e" | "!-e" | "-x" | "!-x") {
            return Err(wrong("there are no files to look at", "test a variable instead"));
        }
        if !left.starts_with('$') {
            return Err(usage());
        }
        let left = self.value(left)?;
        match *texts {
            [_] => Ok(Test::IsSet(left)),
            [_, operator @ ("=" | "!="), right] => {
                Ok(Test::Equals { left, right: self.value(right)?, negated: operator == "!=" })
            }
            [_, operator @ ("~" | "~*" | "!~" | "!~*"), pattern] => {
                let pattern = Self::pattern(pattern, operator.ends_with('*'))?;
                Ok(Test::Matches { value: left, pattern, negated: operator.starts_with('!') })
            }
            _ => Err(usage()),
        }
    }
}

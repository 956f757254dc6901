//! The form of nginx configuration: words, semicolons and blocks, each with the place where it stands.
//!
//! It follows nginx's own reader (`ngx_conf_read_token`): quotes count at the beginning of a word only, a backslash
//! takes the special meaning from the next character, `#` begins a comment where a word could, and `{` ends a word
//! unless it is that of `${name}`.

use std::fmt;
use std::iter::Peekable;
use std::str::Chars;

use thiserror::Error;

/// Bytes of a snippet.
pub const LONGEST: usize = 64 * 1024;
/// Directives of a snippet, those in blocks included.
pub const MOST_DIRECTIVES: usize = 512;
/// Words of one directive.
const MOST_WORDS: usize = 64;
/// Bytes of one word; nginx takes 4096.
const LONGEST_WORD: usize = 4096;
/// Blocks within blocks.
const DEEPEST: usize = 4;

/// A place in a snippet, both numbers from 1. Columns count characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Position {
    /// The line.
    pub line: u32,
    /// The character in the line.
    pub column: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// A word of a directive, without its quotes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Word {
    /// What it says.
    pub text: String,
    /// Where it begins.
    pub at: Position,
}

/// A directive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Directive {
    /// Its name.
    pub name: Word,
    /// The words behind the name.
    pub words: Vec<Word>,
    /// The directives between its braces, if it has braces.
    pub block: Option<Vec<Directive>>,
}

/// Why a text is no configuration.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{what}")]
pub struct SyntaxFault {
    /// Where.
    pub at: Position,
    /// The word that is meant, or the character.
    pub near: String,
    /// What is wrong.
    pub what: String,
}

/// Reads a text into directives. It never panics, and takes time and memory in proportion to the text.
pub fn parse(text: &str) -> Result<Vec<Directive>, SyntaxFault> {
    let start = Position { line: 1, column: 1 };
    if text.len() > LONGEST {
        let what = format!("the snippet is longer than {LONGEST} bytes");
        return Err(SyntaxFault { at: start, near: String::new(), what });
    }
    let mut parser = Parser { lexer: Lexer { rest: text.chars().peekable(), at: start }, count: 0 };
    parser.block(0)
}

/// A piece of the text.
enum Token {
    Word(Word),
    Semicolon(Position),
    Open(Position),
    Close(Position),
    End(Position),
}

struct Lexer<'a> {
    rest: Peekable<Chars<'a>>,
    at: Position,
}

impl Lexer<'_> {
    fn next(&mut self) -> Option<char> {
        let character = self.rest.next()?;
        if character == '\n' {
            self.at.line += 1;
            self.at.column = 1;
        } else {
            self.at.column += 1;
        }
        Some(character)
    }

    fn token(&mut self) -> Result<Token, SyntaxFault> {
        loop {
            let at = self.at;
            match self.rest.peek().copied() {
                None => return Ok(Token::End(at)),
                Some(character) if is_space(character) => {}
                Some('#') => {
                    while self.rest.peek().is_some_and(|character| *character != '\n') {
                        self.next();
                    }
                    continue;
                }
                Some(';') => {
                    self.next();
                    return Ok(Token::Semicolon(at));
                }
                Some('{') => {
                    self.next();
                    return Ok(Token::Open(at));
                }
                Some('}') => {
                    self.next();
                    return Ok(Token::Close(at));
                }
                Some(quote @ ('"' | '\'')) => return self.quoted(quote, at).map(Token::Word),
                Some(_) => return self.bare(at).map(Token::Word),
            }
            self.next();
        }
    }

    fn quoted(&mut self, quote: char, at: Position) -> Result<Word, SyntaxFault> {
        self.next();
        let mut text = String::new();
        loop {
            match self.next() {
                None => return Err(fault(at, &quote.to_string(), "this quote is not closed".to_owned())),
                Some('\\') => self.escaped(&mut text),
                Some(character) if character == quote => break,
                Some(character) => text.push(character),
            }
            check_length(&text, at)?;
        }
        match self.rest.peek() {
            Some(character) if !is_space(*character) && !";{)".contains(*character) => {
                let what = format!("{character:?} stands directly behind a closing quote");
                Err(fault(self.at, &character.to_string(), what))
            }
            _ => Ok(Word { text, at }),
        }
    }

    fn bare(&mut self, at: Position) -> Result<Word, SyntaxFault> {
        let mut text = String::new();
        let mut is_variable = false;
        while let Some(&character) = self.rest.peek() {
            if is_space(character) || character == ';' || (character == '{' && !is_variable) {
                break;
            }
            is_variable = character == '$';
            self.next();
            if character == '\\' {
                self.escaped(&mut text);
            } else {
                text.push(character);
            }
            check_length(&text, at)?;
        }
        Ok(Word { text, at })
    }

    /// What stands behind a backslash: quotes and backslashes stand for themselves, and some letters for white space.
    /// Any other backslash stays, as regular expressions need it.
    fn escaped(&mut self, text: &mut String) {
        match self.next() {
            Some(character @ ('"' | '\'' | '\\')) => text.push(character),
            Some('t') => text.push('\t'),
            Some('r') => text.push('\r'),
            Some('n') => text.push('\n'),
            Some(character) => {
                text.push('\\');
                text.push(character);
            }
            None => text.push('\\'),
        }
    }
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    count: usize,
}

impl Parser<'_> {
    /// The directives up to the end of a block, or of the text at depth 0.
    fn block(&mut self, depth: usize) -> Result<Vec<Directive>, SyntaxFault> {
        let mut directives = Vec::new();
        loop {
            let name = match self.lexer.token()? {
                Token::Word(word) => word,
                Token::Close(_) if depth > 0 => return Ok(directives),
                Token::End(_) if depth == 0 => return Ok(directives),
                Token::End(at) => return Err(fault(at, "", "a block is not closed by \"}\"".to_owned())),
                Token::Semicolon(at) => return Err(unexpected(at, ";")),
                Token::Open(at) => return Err(unexpected(at, "{")),
                Token::Close(at) => return Err(unexpected(at, "}")),
            };
            self.count += 1;
            if self.count > MOST_DIRECTIVES {
                let what = format!("the snippet has more than {MOST_DIRECTIVES} directives");
                return Err(fault(name.at, &name.text, what));
            }
            directives.push(self.directive(name, depth)?);
        }
    }

    fn directive(&mut self, name: Word, depth: usize) -> Result<Directive, SyntaxFault> {
        let mut words = Vec::new();
        loop {
            match self.lexer.token()? {
                Token::Word(word) if words.len() < MOST_WORDS => words.push(word),
                Token::Word(word) => {
                    let what = format!("{} has more than {MOST_WORDS} words", name.text);
                    return Err(fault(word.at, &name.text, what));
                }
                Token::Semicolon(_) => return Ok(Directive { name, words, block: None }),
                Token::Open(_) if name.text.ends_with("_by_lua_block") => {
                    return Err(fault(name.at, &name.text, format!("{} holds Lua, which is not run", name.text)));
                }
                Token::Open(at) if depth >= DEEPEST => {
                    return Err(fault(at, &name.text, format!("more than {DEEPEST} blocks lie within one another")));
                }
                Token::Open(_) => {
                    let block = Some(self.block(depth + 1)?);
                    return Ok(Directive { name, words, block });
                }
                Token::Close(at) => return Err(unexpected(at, "}")),
                Token::End(_) => {
                    return Err(fault(name.at, &name.text, format!("{} does not end in \";\"", name.text)));
                }
            }
        }
    }
}

fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\r' | '\n')
}

fn check_length(text: &str, at: Position) -> Result<(), SyntaxFault> {
    if text.len() <= LONGEST_WORD {
        return Ok(());
    }
    let near: String = text.chars().take(16).collect();
    Err(fault(at, &near, format!("a word is longer than {LONGEST_WORD} bytes; is a quote missing?")))
}

fn unexpected(at: Position, character: &str) -> SyntaxFault {
    fault(at, character, format!("\"{character}\" is not expected here"))
}

fn fault(at: Position, near: &str, what: String) -> SyntaxFault {
    SyntaxFault { at, near: near.to_owned(), what }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `name word word` for each directive, blocks in braces.
    fn shown(directives: &[Directive]) -> String {
        let one = |directive: &Directive| {
            let words: Vec<&str> = std::iter::once(&directive.name).chain(&directive.words).map(|w| &*w.text).collect();
            match &directive.block {
                Some(block) => format!("{} {{{}}}", words.join("|"), shown(block)),
                None => words.join("|"),
            }
        };
        directives.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn text_is_read_as_nginx_reads_it() {
        for (text, expected) in [
            ("", ""),
            ("# only a comment", ""),
            ("return 403;", "return|403"),
            ("a b;c d ;\n#x;\ne;", "a|b c|d e"),
            (r#"more_set_headers "X-A: b; c" 'd "e"';"#, r#"more_set_headers|X-A: b; c|d "e""#),
            (r"a \.js$ \\ \' \t;", "a|\\.js$|\\|'|\t"),
            (r#"a "say \"x\" \d";"#, r#"a|say "x" \d"#),
            ("if ($a = b) { return 403; }", "if|($a|=|b) {return|403}"),
            ("if ($http_a ~* \"x y\") {set $b 1;}", "if|($http_a|~*|x y|) {set|$b|1}"),
            ("set $a ${b}c;", "set|$a|${b}c"),
            ("a b#c;", "a|b#c"),
            ("location / { if ($a) { break; } }", "location|/ {if|($a) {break}}"),
        ] {
            assert_eq!(parse(text).map(|found| shown(&found)).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_configuration_is_told_with_its_place() {
        for (text, line, column, what) in [
            ("return 403", 1, 1, "return does not end in \";\""),
            ("\n  if ($a) {\n return 403;", 3, 13, "a block is not closed by \"}\""),
            ("return 403; }", 1, 13, "\"}\" is not expected here"),
            (";", 1, 1, "\";\" is not expected here"),
            ("a {", 1, 4, "a block is not closed by \"}\""),
            ("a b }", 1, 5, "\"}\" is not expected here"),
            ("a 'b", 1, 3, "this quote is not closed"),
            ("ä 'b'c;", 1, 6, "'c' stands directly behind a closing quote"),
            ("rewrite ^/[a-z]{3}$ /x;", 1, 24, "a block is not closed by \"}\""),
            ("a{b{c{d{e{f;}}}}}", 1, 10, "more than 4 blocks lie within one another"),
        ] {
            let fault = parse(text).unwrap_err();
            assert_eq!((fault.at.line, fault.at.column, &*fault.what), (line, column, what), "{text}");
        }
    }

    #[test]
    fn no_text_takes_more_than_its_share() {
        assert!(parse(&"a;".repeat(MOST_DIRECTIVES)).is_ok());
        for text in [
            "a;".repeat(MOST_DIRECTIVES + 1),
            " ".repeat(LONGEST + 1),
            format!("a {};", "b ".repeat(MOST_WORDS + 1)),
            format!("a {};", "b".repeat(LONGEST_WORD + 1)),
            "{".repeat(10_000),
            "a{".repeat(10_000),
        ] {
            assert!(parse(&text).is_err());
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,80}") {
            let _ = parse(&text);
        }

        #[test]
        fn no_configuration_makes_it_panic(text in "[a$(){};'\"\\\\# \n]{0,60}") {
            let _ = parse(&text);
        }
    }
}

//! Walks a parsed TOML document key by key, keeps every mistake, and remembers which keys were asked
//! for: what nobody asked for is unknown. The schema is therefore the code that reads it.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::mistake::Mistake;
use super::rules::Rule;

/// Below this similarity (Jaro–Winkler, 0 to 1) a known key is not worth suggesting: one or two
/// slips in a word score above it, another word below.
const SUGGESTION_FLOOR: f64 = 0.8;
/// Longest value quoted in a message, in characters.
const QUOTED_MAX: usize = 60;

/// A key of the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownKey {
    /// Dotted path, at most one dot.
    pub path: &'static str,
    /// The default as a TOML literal; `None` when the key is required by a role, or optional.
    pub default: Option<&'static str>,
    /// What it may be, in words.
    pub allowed: String,
}

pub(super) struct Reader<'a> {
    text: &'a str,
    root: &'a DeTable<'a>,
    /// After a syntax mistake a key may be missing only because its line was not understood.
    report_missing: bool,
    known: Vec<KnownKey>,
    mistakes: Vec<Mistake>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str, root: &'a DeTable<'a>, syntax: &[toml::de::Error]) -> Self {
        let mut reader = Self {
            text,
            root,
            report_missing: syntax.is_empty(),
            known: Vec::new(),
            mistakes: Vec::new(),
        };
        for error in syntax {
            let place = reader.place(error.span());
            reader.mistakes.push(Mistake {
                key: String::new(),
                value: None,
                what: format!("not TOML: {}", error.message()),
                allowed: String::new(),
                ..place
            });
        }
        reader
    }

    /// A key with a default. `None` only when the file holds a wrong value.
    pub(super) fn or<R: Rule>(
        &mut self,
        path: &'static str,
        default: &'static str,
        rule: &R,
    ) -> Option<R::Out> {
        self.know(path, Some(default), rule);
        if self.find(path).is_some() {
            return self.present(path, rule);
        }
        // The default goes through the same rule: a default that breaks it fails every test at once.
        let literal = DeValue::parse(default).map_err(|e| e.message().to_owned());
        match literal.and_then(|value| rule.read(value.get_ref())) {
            Ok(out) => Some(out),
            Err(why) => {
                self.mistake(
                    path,
                    format!("the built-in default {default} is refused: {why}"),
                    rule.allowed(),
                );
                None
            }
        }
    }

    /// A key without a default; `because` says who needs it, `None` that nobody does.
    pub(super) fn required<R: Rule>(
        &mut self,
        path: &'static str,
        rule: &R,
        because: Option<&str>,
    ) -> Option<R::Out> {
        self.know(path, None, rule);
        if let Some(because) = because
            && self.report_missing
            && self.find(path).is_none()
        {
            self.mistake(path, format!("missing; {because}"), rule.allowed());
        }
        self.present(path, rule)
    }

    /// Adds a mistake about the value of a key, be it there or not.
    pub(super) fn mistake(&mut self, path: &str, what: String, allowed: String) {
        self.mistake_at(path, false, what, allowed);
    }

    /// Adds a mistake; `at_key` points at the name instead of the value.
    fn mistake_at(&mut self, path: &str, at_key: bool, what: String, allowed: String) {
        let found = self.find(path);
        // A section has no value to quote.
        let value = found
            .filter(|(_, value)| !value.get_ref().is_table())
            .map(|(_, value)| self.quote(value.span()));
        let span = found.map(|(key, value)| {
            if at_key || value.get_ref().is_table() {
                key.span()
            } else {
                value.span()
            }
        });
        // A missing key is shown where its section begins, or where the roles that need it are.
        let span = span.or_else(|| {
            let section = path
                .split_once('.')
                .and_then(|(section, _)| self.root.get_key_value(section));
            section
                .map(|(key, _)| key.span())
                .or_else(|| self.root.get_key_value("roles").map(|(key, _)| key.span()))
        });
        let place = self.place(span);
        self.mistakes.push(Mistake {
            key: path.to_owned(),
            value,
            what,
            allowed,
            ..place
        });
    }

    /// Reports what nobody asked for and gives back every mistake, in the order of the file, and the
    /// schema.
    pub(super) fn finish(mut self) -> (Vec<Mistake>, Vec<KnownKey>) {
        self.unknown();
        self.mistakes
            .sort_by_key(|m| (m.line.unwrap_or(usize::MAX), m.column));
        (self.mistakes, self.known)
    }

    fn know<R: Rule>(&mut self, path: &'static str, default: Option<&'static str>, rule: &R) {
        self.known.push(KnownKey {
            path,
            default,
            allowed: rule.allowed(),
        });
    }

    fn present<R: Rule>(&mut self, path: &'static str, rule: &R) -> Option<R::Out> {
        let (_, value) = self.find(path)?;
        match rule.read(value.get_ref()) {
            Ok(out) => Some(out),
            Err(why) => {
                self.mistake(path, why, rule.allowed());
                None
            }
        }
    }

    fn find(&self, path: &str) -> Option<Entry<'a>> {
        match path.split_once('.') {
            None => self.root.get_key_value(path),
            Some((section, key)) => self
                .root
                .get(section)?
                .get_ref()
                .as_table()?
                .get_key_value(key),
        }
    }

    /// Every key of the document that is not of the schema, with the nearest that is.
    fn unknown(&mut self) {
        let mut sections: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for known in &self.known {
            let (section, key) = known.path.split_once('.').unwrap_or(("", known.path));
            sections.entry(section).or_default().push(key);
        }
        let root = self.root;
        for (name, value) in root {
            let name = name.get_ref().as_ref();
            let top = sections.get("").map_or(&[][..], Vec::as_slice);
            match (sections.get(name), value.get_ref().as_table()) {
                (Some(keys), Some(table)) => {
                    for key in table
                        .keys()
                        .map(|k| k.get_ref().as_ref())
                        .filter(|k| !keys.contains(k))
                    {
                        self.report_unknown(&format!("{name}.{key}"), keys);
                    }
                }
                (Some(keys), None) => {
                    self.mistake(
                        name,
                        "wrong type: expected a section".into(),
                        format!("[{name}] with {}", keys.join(", ")),
                    );
                }
                (None, Some(_)) if !top.contains(&name) => {
                    let all: Vec<&str> =
                        sections.keys().copied().filter(|s| !s.is_empty()).collect();
                    let hint = nearest(name, all.iter().copied())
                        .map_or(String::new(), |n| format!("; did you mean [{n}]?"));
                    self.mistake(
                        name,
                        format!("unknown section{hint}"),
                        format!("the sections {}", all.join(", ")),
                    );
                }
                (None, _) if !top.contains(&name) => self.report_unknown(name, top),
                (None, _) => {}
            }
        }
    }

    fn report_unknown(&mut self, path: &str, siblings: &[&str]) {
        let (section, name) = path.split_once('.').unwrap_or(("", path));
        let elsewhere = self
            .known
            .iter()
            .map(|k| k.path)
            .find(|known| known.rsplit('.').next() == Some(name));
        let suggestion = match elsewhere {
            Some(known) => Some(known.to_owned()),
            None => nearest(name, siblings.iter().copied())
                .map(|near| {
                    if section.is_empty() {
                        near.to_owned()
                    } else {
                        format!("{section}.{near}")
                    }
                })
                .or_else(|| nearest(path, self.known.iter().map(|k| k.path)).map(str::to_owned)),
        };
        let hint = suggestion.map_or(String::new(), |s| format!("; did you mean `{s}`?"));
        let place = if section.is_empty() {
            "at the top".to_owned()
        } else {
            format!("in [{section}]")
        };
        self.mistake_at(
            path,
            true,
            format!("unknown key{hint}"),
            format!("{place}: {}", siblings.join(", ")),
        );
    }

    /// Line, column and text of a place in the file.
    fn place(&self, span: Option<Range<usize>>) -> Mistake {
        let empty = Mistake {
            line: None,
            column: 1,
            key: String::new(),
            value: None,
            shown: String::new(),
            what: String::new(),
            allowed: String::new(),
        };
        let Some(before) = span.and_then(|s| self.text.get(..s.start)) else {
            return empty;
        };
        let begin = before.rfind('\n').map_or(0, |at| at + 1);
        Mistake {
            line: Some(before.matches('\n').count() + 1),
            column: before[begin..].chars().count() + 1,
            shown: self.text[begin..]
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned(),
            ..empty
        }
    }

    fn quote(&self, span: Range<usize>) -> String {
        let text = self.text.get(span).unwrap_or_default();
        let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
        match flat.char_indices().nth(QUOTED_MAX) {
            Some((cut, _)) => format!("{}…", &flat[..cut]),
            None => flat,
        }
    }
}

type Entry<'a> = (
    &'a Spanned<toml::de::DeString<'a>>,
    &'a Spanned<DeValue<'a>>,
);

fn nearest<'k>(word: &str, among: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    among
        .map(|known| (strsim::jaro_winkler(word, known), known))
        .filter(|(score, _)| *score >= SUGGESTION_FLOOR)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}

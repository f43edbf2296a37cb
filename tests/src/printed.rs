//! The commands that a page of the documentation prints, and what it says that they answer.
//!
//! A page writes them in blocks of `console`: a line that begins with `$ ` is a command (it goes on where a line ends in
//! `\`), and the lines beneath, if there are any, are its answer. In an answer `…` stands for anything (alone: for anything
//! but silence), and white space does not count, so that a page can break long lines.

use crate::workspace;

/// A command as a page prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Printed {
    /// The page, from the top of the workspace, and the line in it.
    pub place: String,
    /// What is typed.
    pub command: String,
    /// What is answered; empty where the page does not say.
    pub answer: String,
}

/// The commands of a page, named from the top of the workspace, as in `docs/claiming.md`.
///
/// # Panics
/// If there is no such page, or it has no commands, or has some where no test would find them.
pub fn printed(page: &str) -> Vec<Printed> {
    let text = std::fs::read_to_string(workspace().join(page)).unwrap_or_else(|e| panic!("{page}: {e}"));
    read(page, &text)
}

impl Printed {
    /// Whether this was the answer. A page that does not say what is answered agrees with anything.
    pub fn agrees(&self, said: &str) -> bool {
        if self.answer.is_empty() {
            return true;
        }
        let bare = |text: &str| text.split_whitespace().collect::<String>();
        let (answer, said) = (bare(&self.answer), bare(said));
        if said.is_empty() {
            return false;
        }
        let mut pieces = answer.split('…');
        let Some(mut rest) = pieces.next().and_then(|first| said.strip_prefix(first)) else {
            return false;
        };
        let Some(last) = pieces.next_back() else { return rest.is_empty() };
        for piece in pieces {
            let Some(at) = rest.find(piece) else { return false };
            rest = &rest[at + piece.len()..];
        }
        rest.ends_with(last)
    }

    /// Whether the page says that the answer is a refusal: a problem document, or an `error:` of a program.
    pub fn is_refused(&self) -> bool {
        self.answer.starts_with("error:") || self.answer.contains("\"code\":\"TMX-")
    }

    /// The name of the variable that this sets, if that is what it does.
    pub fn variable(&self) -> Option<&str> {
        let (name, _) = self.command.split_once('=')?;
        let is_name = name.starts_with(|c: char| c.is_ascii_uppercase())
            && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
        is_name.then_some(name)
    }
}

fn read(page: &str, text: &str) -> Vec<Printed> {
    let (mut found, mut fence): (Vec<Printed>, Option<&str>) = (vec![], None);
    for (number, line) in (1..).zip(text.lines()) {
        match (fence, line.strip_prefix("```")) {
            (None, Some(kind)) => {
                let is_lost = ["sh", "bash", "shell"].contains(&kind);
                assert!(!is_lost, "{page}:{number}: a block of {kind}; commands stand in blocks of console");
                fence = Some(kind);
            }
            (Some(_), Some(_)) => fence = None,
            (Some("console"), None) => match (line.strip_prefix("$ "), found.last_mut()) {
                (Some(command), _) => found.push(Printed {
                    place: format!("{page}:{number}"),
                    command: command.to_owned(),
                    answer: String::new(),
                }),
                (None, Some(last)) if last.command.ends_with('\\') => last.command += &format!("\n{line}"),
                (None, Some(last)) => last.answer += &format!("{line}\n"),
                (None, None) => panic!("{page}:{number}: an answer without a command"),
            },
            _ => {}
        }
    }
    assert!(fence.is_none(), "{page}: a block without an end");
    assert!(!found.is_empty(), "{page} lost its commands");
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "```json\n$ no command\n```\n```console\n$ curl -X PUT \\\n  -d x\n{\"a\":1,\n \"b\":\"…\"}\n\
                        $ A_1=$(two)\n$ curl\n{\"code\":\"TMX-4030\"…}\n```\ntext\n$ not in a block\n";

    #[test]
    fn commands_and_their_answers_are_found_where_a_shell_would() {
        let found = read("page.md", PAGE);
        let commands: Vec<_> = found.iter().map(|printed| printed.command.as_str()).collect();
        assert_eq!(commands, ["curl -X PUT \\\n  -d x", "A_1=$(two)", "curl"]);
        assert_eq!(found[0].place, "page.md:5");
        assert_eq!(found[0].answer, "{\"a\":1,\n \"b\":\"…\"}\n");
        assert_eq!((found[0].variable(), found[1].variable()), (None, Some("A_1")));
        assert_eq!((found[0].is_refused(), found[2].is_refused()), (false, true));
    }

    #[test]
    fn an_answer_is_compared_but_for_its_white_space_and_what_is_left_out() {
        let found = read("page.md", PAGE);
        assert!(found[0].agrees("{\"a\": 1, \"b\": \"anything\"}"));
        assert!(!found[0].agrees("{\"a\":2,\"b\":\"x\"}"));
        assert!(!found[0].agrees("{\"a\":1,\"b\":\"x\"} and more"));
        assert!(!found[0].agrees(""));
        assert!(found[1].agrees("whatever"));
        let whole = Printed { answer: "x".into(), ..found[1].clone() };
        assert!(whole.agrees("x\n") && !whole.agrees("xx"));
    }

    #[test]
    #[should_panic(expected = "blocks of console")]
    fn commands_that_no_test_would_find_are_not_passed_over() {
        read("page.md", "```sh\ncurl\n```\n");
    }
}

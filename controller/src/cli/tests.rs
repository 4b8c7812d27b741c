use super::*;
use clap::CommandFactory;
use std::path::Path;

fn every(command: &clap::Command, visit: &mut impl FnMut(&clap::Command)) {
    visit(command);
    command.get_subcommands().filter(|c| !c.is_hide_set()).for_each(|c| every(c, visit));
}

#[test]
fn the_definition_holds_together() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_shows_an_example() {
    every(&Cli::command(), &mut |command| {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(help.contains("Example") && help.contains("  fieldpost"), "{} has none", command.get_name());
    });
}

/// Words of a command line; single quotes hold spaces together.
fn shell_words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for (index, part) in line.split('\'').enumerate() {
        for (nth, piece) in if index % 2 == 1 { vec![part] } else { part.split(' ').collect() }.into_iter().enumerate()
        {
            if nth > 0 {
                words.push(String::new());
            }
            words.last_mut().unwrap().push_str(piece);
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// An example that the program itself refuses would be worse than none.
#[test]
fn every_example_is_a_command_line_that_parses() {
    every(&Cli::command(), &mut |command| {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        for line in help.lines().filter_map(|line| line.strip_prefix("  fieldpost")) {
            // What two spaces set apart is explanation; what follows a pipe or a redirection is the shell's.
            let line = line.split("  ").next().unwrap_or_default();
            let line = line.split(['|', '>', '<', '&']).next().unwrap_or_default();
            let words = std::iter::once("fieldpost".to_owned()).chain(shell_words(line));
            if let Err(error) = Cli::try_parse_from(words) {
                assert!(!error.use_stderr(), "`fieldpost{line}`: {error}");
            }
        }
    });
}

/// A hint that the program itself refuses sends people the wrong way in the worst moment.
#[test]
fn every_command_that_a_message_names_is_one_that_parses() {
    use clap::error::ErrorKind::{InvalidSubcommand, UnknownArgument};
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    folders.push(Path::new(env!("CARGO_MANIFEST_DIR")).join("../agent/src"));
    let mut named = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                for line in text.split("`fieldpost ").skip(1).filter_map(|rest| rest.split('`').next()) {
                    let words = line.split_whitespace().filter(|word| !matches!(*word, "..." | "\u{2026}"));
                    let words: Vec<&str> = std::iter::once("fieldpost").chain(words).collect();
                    if words.iter().any(|word| word.starts_with("//") || word.starts_with('{') || word.contains('|')) {
                        continue;
                    }
                    named += 1;
                    // Placeholders have no right value, and what a person is to add is missing.
                    if let Err(error) = Cli::try_parse_from(&words) {
                        let wrong = matches!(error.kind(), UnknownArgument | InvalidSubcommand);
                        assert!(!wrong, "{}: `fieldpost {line}`: {error}", path.display());
                    }
                }
            }
        }
    }
    assert!(named > 20, "only {named} commands are named");
}

/// Help as a person reads it, whatever the terminal and the environment of the test.
fn help(path: &[&str]) -> String {
    let mut command = Cli::command().term_width(110);
    command.build();
    let found = path.iter().fold(&mut command, |command, name| {
        command.find_subcommand_mut(name).unwrap_or_else(|| panic!("no command `{name}`"))
    });
    let text = found.render_long_help().to_string();
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

#[test]
fn help_of_the_main_commands() {
    let commands: [&[&str]; 9] = [
        &[],
        &["serve"],
        &["bundle"],
        &["bundle", "pack"],
        &["bundle", "push"],
        &["trust", "rotate"],
        &["token", "create"],
        &["device", "list"],
        &["rollout", "start"],
    ];
    for path in commands {
        insta::assert_snapshot!(format!("help_{}", path.join("_")), help(path));
    }
}

#[test]
fn the_help_of_a_plan_shows_plans() {
    let text = help(&["rollout", "plan"]);
    assert!(text.contains("fieldpost rollout plan") && !text.contains("fieldpost rollout start"), "{text}");
}

#[test]
fn nobody_changes_at_the_same_time_is_no_rollout() {
    let words = ["fieldpost", "rollout", "start", "digits@1.1.0", "--max-concurrent", "0"];
    let error = Cli::try_parse_from(words).unwrap_err().to_string();
    assert!(error.contains("at least 1") && error.contains("leave it out"), "{error}");
}

#[test]
fn no_help_leaks_what_the_environment_holds() {
    every(&Cli::command(), &mut |command| {
        for arg in command.get_arguments().filter(|arg| arg.get_env().is_some()) {
            assert!(arg.is_hide_env_values_set(), "{} {}", command.get_name(), arg.get_id());
        }
    });
}

#[test]
fn a_command_that_needs_another_one_shows_what_there_is() {
    for line in ["fieldpost", "fieldpost bundle", "fieldpost token", "fieldpost --output json trust"] {
        let error = parse(line.split_whitespace().map(Into::into).collect()).unwrap_err();
        let text = error.to_string();
        assert_eq!(error.exit_code(), 2, "{line}");
        assert!(text.contains("Commands:") && text.contains("Examples:"), "{line}: {text}");
    }
}

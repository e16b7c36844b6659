//! The pages of `docs/` form a book. Its table of contents lists each page. Every link within the project leads to an
//! existing file and heading. Tables have the columns that `kubectl` prints. Every path of the project between
//! backticks exists, in pages and in comments.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Component, Path, PathBuf},
};

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};
use rstest::rstest;
use serde_json::Value;

const CONTENTS: &str = "docs/SUMMARY.md";
/// Pages outside the book that people read.
const OTHERS: [&str; 3] = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"];

/// A page as a reader sees it.
#[derive(Debug, Default)]
struct Page {
    links: Vec<String>,
    /// The anchors of its headings, which links end with.
    anchors: BTreeSet<String>,
    /// Commands and their output.
    consoles: Vec<String>,
    /// Inline code without the backticks.
    codes: Vec<String>,
}

impl Page {
    fn read(markdown: &str) -> Self {
        let mut page = Self::default();
        let (mut heading, mut is_console): (Option<String>, bool) = (None, false);
        for event in Parser::new_ext(markdown, Options::ENABLE_TABLES) {
            match event {
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    page.links.push(dest_url.into_string());
                }
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => page.add_heading(&heading.take().unwrap_or_default()),
                Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(language))) => {
                    is_console = &*language == "console";
                    page.consoles.extend(is_console.then(String::new));
                }
                Event::End(TagEnd::CodeBlock) => is_console = false,
                Event::Text(text) if is_console => page.consoles.last_mut().unwrap().push_str(&text),
                Event::Text(text) => {
                    if let Some(heading) = &mut heading {
                        heading.push_str(&text);
                    }
                }
                Event::Code(code) => {
                    if let Some(heading) = &mut heading {
                        heading.push_str(&code);
                    }
                    page.codes.push(code.into_string());
                }
                _ => {}
            }
        }
        page
    }

    /// The first of several equal headings has the plain anchor; the others are numbered.
    fn add_heading(&mut self, heading: &str) {
        let kept = heading.chars().filter_map(|letter| match letter {
            letter if letter.is_alphanumeric() || "-_".contains(letter) => Some(letter.to_ascii_lowercase()),
            letter if letter.is_whitespace() => Some('-'),
            _ => None,
        });
        let name: String = kept.collect();
        let counted = (1..).map(|number| format!("{name}-{number}"));
        let free = std::iter::once(name.clone()).chain(counted).find(|name| !self.anchors.contains(name));
        self.anchors.extend(free);
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All pages, by their paths within the project.
fn pages() -> BTreeMap<PathBuf, Page> {
    let book = fs::read_dir(root().join("docs"))
        .unwrap()
        .map(|entry| Path::new("docs").join(entry.unwrap().file_name()));
    let book = book.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let paths = book.chain(OTHERS.map(PathBuf::from));
    paths.map(|path| (path.clone(), Page::read(&fs::read_to_string(root().join(path)).unwrap()))).collect()
}

#[test]
fn every_page_is_in_the_table_of_contents_once() {
    let pages = pages();
    let contents = &pages[Path::new(CONTENTS)].links;
    let listed: BTreeSet<_> = contents.iter().map(|link| Path::new("docs").join(link)).collect();
    assert_eq!(listed.len(), contents.len(), "a page is listed twice: {contents:?}");
    let there = pages.keys().filter(|path| path.starts_with("docs") && *path != Path::new(CONTENTS));
    assert_eq!(listed, there.cloned().collect());
}

#[test]
fn every_link_leads_somewhere() {
    let pages = pages();
    let mut checked = 0;
    let mut wrong = Vec::new();
    for (path, page) in &pages {
        for link in page.links.iter().filter(|link| !link.contains("://")) {
            checked += 1;
            if let Err(why) = follow(&pages, path, link) {
                wrong.push(format!("{}: `{link}` {why}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked >= 60, "only {checked} links");
}

#[test]
fn tables_have_the_columns_that_are_printed() {
    let definitions: Vec<Value> = fs::read_dir(root().join("crds"))
        .unwrap()
        .map(|entry| serde_saphyr::from_str(&fs::read_to_string(entry.unwrap().path()).unwrap()).unwrap())
        .collect();
    let mut seen = 0;
    for (path, page) in pages() {
        for console in &page.consoles {
            let lines: Vec<_> = console.lines().collect();
            for (command, header) in lines.windows(2).map(|pair| (pair[0], pair[1])) {
                let Some(expected) = columns(&definitions, command) else { continue };
                let shown: Vec<_> = header.split_whitespace().collect();
                assert_eq!(shown, expected, "{}: `{command}`", path.display());
                seen += 1;
            }
        }
    }
    assert!(seen >= 6, "only {seen} tables");
}

/// The column heads that a command prints; `None` if it prints none of the project's objects.
fn columns(definitions: &[Value], command: &str) -> Option<Vec<String>> {
    let words: Vec<_> = command.strip_prefix("$ kubectl get ")?.split_whitespace().collect();
    let is_meant = |definition: &&Value| {
        let names = &definition["spec"]["names"];
        let short = names["shortNames"].as_array().into_iter().flatten();
        short.chain([&names["plural"], &names["singular"]]).any(|name| *name == words[0])
    };
    let definition = definitions.iter().find(is_meant)?;
    let version = &definition["spec"]["versions"][0];
    let wide = words.ends_with(&["-o", "wide"]);
    let shown = version["additionalPrinterColumns"].as_array()?.iter();
    let shown = shown.filter(|column| wide || column["priority"].as_i64().unwrap_or_default() == 0);
    let heads = shown.filter_map(|column| Some(column["name"].as_str()?.to_uppercase()));
    let first = words.contains(&"-A").then_some("NAMESPACE").into_iter().chain(["NAME"]);
    Some(first.map(str::to_owned).chain(heads).collect())
}

#[test]
fn every_path_between_backticks_exists() {
    let tree = Tree::read();
    let pages = pages();
    let in_pages =
        pages.iter().flat_map(|(path, page)| page.codes.iter().map(move |code| (path.clone(), code.clone())));
    let sources =
        tree.files.iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let in_comments = sources.flat_map(|path| {
        let source = fs::read_to_string(root().join(path)).unwrap();
        codes_in_comments(&source).map(|code| (path.clone(), code)).collect::<Vec<_>>()
    });
    let (mut checked, mut wrong) = (0, Vec::new());
    for (page, code) in in_pages.chain(in_comments) {
        for path in tree.paths_in(&code) {
            checked += 1;
            if !tree.has(&path) {
                wrong.push(format!("{}: `{path}` does not exist", page.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked >= 100, "only {checked} paths");
}

/// The files of the project, by their paths within it.
struct Tree {
    files: BTreeSet<PathBuf>,
}

impl Tree {
    /// Folders with build results or files of users.
    const SKIPPED: [&str; 3] = [".git", "target", "book"];

    fn read() -> Self {
        let mut files = BTreeSet::new();
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(root().join(&folder)).unwrap() {
                let entry = entry.unwrap();
                let path = folder.join(entry.file_name());
                if !entry.file_type().unwrap().is_dir() {
                    files.insert(path);
                } else if !Self::SKIPPED.iter().any(|skipped| entry.file_name() == *skipped) {
                    folders.push(path);
                }
            }
        }
        Self { files }
    }

    /// The paths of the project in a piece of code: words that begin with one of its folders, or that are the name of a
    /// source file. `{a,b}` means several paths.
    fn paths_in(&self, code: &str) -> Vec<String> {
        let words = code.split_whitespace().filter(|word| !word.contains(['<', '>', '$', '…']));
        let paths = words.flat_map(alternatives).map(|word| word.trim_end_matches(['/', ',']).to_owned());
        let folders: BTreeSet<_> = self.files.iter().filter_map(|file| first_folder(file)).collect();
        let is_source = |word: &str| {
            let stem = word.strip_suffix(".rs");
            stem.is_some_and(|stem| stem.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'))
        };
        let is_path = |word: &String| {
            first_folder(Path::new(word)).is_some_and(|first| folders.contains(first)) || is_source(word)
        };
        paths.filter(is_path).collect()
    }

    /// Whether this file or folder exists. A single name matches a file in any folder; `*` matches any part of a path.
    fn has(&self, path: &str) -> bool {
        if let Some((before, after)) = path.split_once('*') {
            return self.files.iter().filter_map(|file| file.to_str()).any(|file| {
                file.strip_prefix(before).is_some_and(|rest| rest.contains(after.trim_start_matches('*')))
            });
        }
        self.files.iter().any(|file| {
            file.starts_with(path)
                || (!path.contains('/') && file.file_name().is_some_and(|name| name == path))
        })
    }
}

/// The first folder of a path, if it has one.
fn first_folder(path: &Path) -> Option<&Path> {
    path.ancestors().filter(|folder| !folder.as_os_str().is_empty()).skip(1).last()
}

/// The alternatives of a word with `{a,b}`.
fn alternatives(word: &str) -> Vec<String> {
    let Some((before, rest)) = word.split_once('{') else { return vec![word.to_owned()] };
    let Some((middle, after)) = rest.split_once('}') else { return Vec::new() };
    middle.split(',').map(|part| format!("{before}{part}{after}")).collect()
}

/// The text between backticks in the comments of a Rust file.
fn codes_in_comments(source: &str) -> impl Iterator<Item = String> {
    let comments = source.lines().filter_map(|line| line.trim_start().strip_prefix("//"));
    comments.flat_map(|comment| comment.split('`').skip(1).step_by(2)).map(str::to_owned)
}

#[rstest]
#[case::file("src/lib.rs", &["src/lib.rs"], true)]
#[case::folder("`src/api/`", &[], true)]
#[case::folder_with_a_slash("src/api/", &["src/api"], true)]
#[case::several("src/{lib,main}.rs", &["src/lib.rs", "src/main.rs"], true)]
#[case::any("deploy/helm/servicekey-operator/values*.yaml", &["deploy/helm/servicekey-operator/values*.yaml"], true)]
#[case::name_alone("stage.rs", &["stage.rs"], true)]
#[case::gone("src/heart.rs", &["src/heart.rs"], false)]
#[case::gone_folder("src/hearts/", &["src/hearts"], false)]
#[case::gone_name("hearts.rs", &["hearts.rs"], false)]
#[case::command("cargo test --test operator tests/operator/heart.rs", &["tests/operator/heart.rs"], false)]
#[case::no_path("application/json", &[], true)]
#[case::placeholder("src/<name>.rs", &[], true)]
fn a_path_that_does_not_exist_is_found(#[case] code: &str, #[case] paths: &[&str], #[case] exists: bool) {
    let tree = Tree::read();
    let found = tree.paths_in(code);
    assert_eq!(found, paths);
    assert_eq!(found.iter().all(|path| tree.has(path)), exists);
}

/// Resolves a link from a page to a file and a heading.
fn follow(pages: &BTreeMap<PathBuf, Page>, from: &Path, link: &str) -> Result<(), &'static str> {
    let (file, anchor) = link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor)));
    let target = if file.is_empty() { from.to_owned() } else { plain(&from.parent().unwrap().join(file)) };
    if from.starts_with("docs") && !target.starts_with("docs") {
        return Err("leaves the book, and the built book does not contain the target");
    }
    if !root().join(&target).exists() {
        return Err("leads to no file");
    }
    match (anchor, pages.get(&target)) {
        (Some(anchor), Some(page)) if !page.anchors.contains(anchor) => Err("leads to no heading"),
        _ => Ok(()),
    }
}

/// The path without `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

#[rstest]
#[case::page("docs/one.md", "two.md", Ok(()))]
#[case::heading("docs/one.md", "two.md#the-what-of-it", Ok(()))]
#[case::second_heading_of_a_name("docs/one.md", "two.md#the-what-of-it-1", Ok(()))]
#[case::heading_of_the_same_page("docs/two.md", "#the-what-of-it", Ok(()))]
#[case::from_outside("README.md", "docs/two.md", Ok(()))]
#[case::folder("README.md", "docs/", Ok(()))]
#[case::no_page("docs/one.md", "three.md", Err("leads to no file"))]
#[case::no_heading("docs/one.md", "two.md#other", Err("leads to no heading"))]
#[case::out_of_the_book(
    "docs/one.md",
    "../README.md",
    Err("leaves the book, and the built book does not contain the target")
)]
fn a_link_that_leads_nowhere_is_found(
    #[case] from: &str,
    #[case] link: &str,
    #[case] expected: Result<(), &str>,
) {
    // Use names of real files, because links must lead to existing files.
    let link = link.replace("two.md", "design.md");
    let from = from.replace("two.md", "design.md");
    let page = Page::read("# The `what` of it!\n\n## The what of it\n");
    let pages = BTreeMap::from([(PathBuf::from("docs/design.md"), page)]);
    assert_eq!(follow(&pages, Path::new(&from), &link), expected);
}

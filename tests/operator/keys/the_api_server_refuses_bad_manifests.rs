//! The API server refuses bad manifests, and each message says what to write instead. It accepts every manifest that
//! the documentation shows.

use std::{collections::BTreeMap, fs, path::Path};

use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams},
};
use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag};
use servicekey_operator::api::{ClusterKeyProvider, KeyProvider, ServiceKey};

use crate::support::stage::Stage;

/// A smaller number means that the test did not find the folder.
const FEWEST: usize = 25;
/// The same for the documentation.
const FEWEST_SHOWN: usize = 20;

#[tokio::test]
async fn every_bad_manifest_is_refused_with_its_words() {
    let stage = Stage::set().await;
    let manifests = manifests("bad_manifests");
    assert!(manifests.len() >= FEWEST, "only {} manifests", manifests.len());
    let mut wrong = Vec::new();
    for (file, text) in &manifests {
        let words = text.lines().next().and_then(|line| line.strip_prefix("# refused: "));
        let words = words.unwrap_or_else(|| panic!("`{file}` does not begin with `# refused: `"));
        let (bad, accepted) =
            documents(text).split_last().map(|(bad, rest)| (bad.clone(), rest.to_vec())).unwrap();
        for document in accepted {
            if let Err(refusal) = stage.apply(&document).await {
                wrong.push(format!("{file}: the first document is refused: {refusal}"));
            }
        }
        match stage.apply(&bad).await {
            Ok(()) => wrong.push(format!("{file}: accepted")),
            Err(refusal) if refusal.contains(words) => {}
            Err(refusal) => wrong.push(format!("{file}: refused with another message: {refusal}")),
        }
    }
    assert!(wrong.is_empty(), "{} of {} manifests:\n{}", wrong.len(), manifests.len(), wrong.join("\n"));
}

#[tokio::test]
async fn every_good_manifest_is_accepted() {
    let stage = Stage::set().await;
    let manifests = manifests("good_manifests");
    assert!(!manifests.is_empty());
    for (file, text) in &manifests {
        for document in documents(text) {
            if let Err(refusal) = stage.apply(&document).await {
                panic!("{file}: {refusal}");
            }
        }
    }
}

#[tokio::test]
async fn every_manifest_in_the_documents_is_accepted() {
    let stage = Stage::set().await;
    let mut seen = 0;
    for (file, text) in documentation() {
        let documents = blocks(&text).iter().flat_map(|block| documents(block)).collect::<Vec<_>>();
        for document in documents.into_iter().filter(|document| !is_of_another_tool(document)) {
            if let Err(refusal) = stage.try_out(document).await {
                panic!("{file}: {refusal}");
            }
            seen += 1;
        }
    }
    assert!(seen >= FEWEST_SHOWN, "only {seen} manifests");
}

/// The pages that users read.
fn documentation() -> impl Iterator<Item = (String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = pages.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages
        .chain([root.join("README.md")])
        .map(|path| (path.display().to_string(), fs::read_to_string(&path).unwrap()))
}

/// The complete manifests on a page; other YAML blocks are fragments or belong to other tools.
fn blocks(page: &str) -> Vec<String> {
    let (mut blocks, mut is_yaml) = (Vec::new(), false);
    for event in Parser::new_ext(page, Options::ENABLE_TABLES) {
        match event {
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(language))) => {
                is_yaml = &*language == "yaml";
                blocks.extend(is_yaml.then(String::new));
            }
            Event::Text(text) if is_yaml => blocks.last_mut().unwrap().push_str(&text),
            Event::End(_) => is_yaml = false,
            _ => {}
        }
    }
    blocks.retain(|block| block.starts_with("apiVersion: ") && block.contains("\nkind: "));
    blocks
}

/// Whether the manifest belongs to a tool that is not installed here.
fn is_of_another_tool(document: &DynamicObject) -> bool {
    let tools = ["kustomize.toolkit.fluxcd.io/v1", "argoproj.io/v1alpha1"];
    tools.contains(&document.types.as_ref().unwrap().api_version.as_str())
}

fn manifests(folder: &str) -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| {
            (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read_to_string(path).unwrap())
        })
        .collect()
}

fn documents(text: &str) -> Vec<DynamicObject> {
    text.split("\n---\n").map(|document| serde_saphyr::from_str(document).unwrap()).collect()
}

impl Stage {
    /// Applies a manifest like `kubectl apply --server-side`, and refuses unknown fields. The error is what `kubectl`
    /// would print.
    async fn apply(&self, object: &DynamicObject) -> Result<(), String> {
        let name = object.metadata.name.as_deref().unwrap();
        let parameters = PatchParams { force: true, ..PatchParams::apply("test") }.validation_strict();
        let api = self.api_of(self.client.clone(), &object.types.as_ref().unwrap().kind);
        match api.patch(name, &parameters, &Patch::Apply(object)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) => Err(status.message),
            Err(other) => panic!("`{name}` could not be applied: {other}"),
        }
    }

    /// Like [`apply`](Self::apply), but as a dry run in the stage's own namespace.
    async fn try_out(&self, mut object: DynamicObject) -> Result<(), String> {
        let kind = GroupVersionKind::try_from(object.types.as_ref().unwrap()).unwrap();
        let resource = ApiResource::from_gvk(&kind);
        let api: Api<DynamicObject> = match object.metadata.namespace.take() {
            None if kind.kind == "ClusterKeyProvider" => Api::all_with(self.client.clone(), &resource),
            _ => Api::namespaced_with(self.client.clone(), &self.namespace, &resource),
        };
        let parameters = PatchParams { dry_run: true, ..PatchParams::apply("test") }.validation_strict();
        let name = object.metadata.name.clone().unwrap();
        match api.patch(&name, &parameters, &Patch::Apply(&object)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) => Err(status.message),
            Err(other) => panic!("`{name}` could not be applied: {other}"),
        }
    }

    fn api_of(&self, client: Client, kind: &str) -> Api<DynamicObject> {
        match kind {
            "ClusterKeyProvider" => Api::all_with(client, &ApiResource::erase::<ClusterKeyProvider>(&())),
            "KeyProvider" => {
                Api::namespaced_with(client, &self.namespace, &ApiResource::erase::<KeyProvider>(&()))
            }
            "ServiceKey" => {
                Api::namespaced_with(client, &self.namespace, &ApiResource::erase::<ServiceKey>(&()))
            }
            other => panic!("there is no kind `{other}`"),
        }
    }
}

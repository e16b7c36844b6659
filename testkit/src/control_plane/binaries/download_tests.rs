//! Downloads from a local server: the test kit uses only a complete archive with the right checksum.

use std::fs;

use axum::{
    Router,
    body::{Body, Bytes},
    http::{StatusCode, header::CONTENT_LENGTH},
    response::Response,
    routing::get,
};
use flate2::{Compression, write::GzEncoder};

use super::*;

const VERSION: &str = "v1.36.2";

fn archive_with(files: &[&str]) -> Vec<u8> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for file in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(file.len() as u64);
        header.set_mode(0o644);
        archive
            .append_data(&mut header, format!("controller-tools/envtest/{file}"), file.as_bytes())
            .unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap()
}

/// Serves an index that names one archive. `answer` sends the archive.
async fn serve(version: &str, hash: &str, answer: fn(Bytes) -> Response, archive: Vec<u8>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let root = format!("http://{}", listener.local_addr().unwrap());
    let index = format!(
        "releases:\n  {version}:\n    envtest-{version}-{}.tar.gz:\n      hash: {hash}\n      selfLink: {root}/archive\n",
        platform()
    );
    let archive = Bytes::from(archive);
    let router = Router::new()
        .route("/index", get(|| async { index }))
        .route("/archive", get(move || async move { answer(archive) }));
    tokio::spawn(async { axum::serve(listener, router).await });
    format!("{root}/index")
}

async fn fetch_into(cache: &Path, index: &str) -> Result<(), Error> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    fetch(index, VERSION, cache, &|_: &Step| {}).await
}

fn whole(archive: Bytes) -> Response {
    Response::new(Body::from(archive))
}

fn cut_short(archive: Bytes) -> Response {
    let mut response = Response::new(Body::from_stream(futures::stream::iter([
        Ok(archive.slice(..archive.len() / 2)),
        Err(std::io::Error::other("cut short")),
    ])));
    response.headers_mut().insert(CONTENT_LENGTH, archive.len().into());
    response
}

fn absent(_: Bytes) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

/// The error of a download. Fails if the cache contains anything afterwards.
async fn refused(index: &str) -> String {
    let cache = tempfile::tempdir().unwrap();
    let error = fetch_into(cache.path(), index).await.unwrap_err();
    let left: Vec<_> = fs::read_dir(cache.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    error.to_string()
}

#[tokio::test]
async fn a_good_archive_fills_the_cache_with_executable_servers_only() {
    let archive = archive_with(&["etcd", "kube-apiserver", "kubectl"]);
    let hash = hex(&Sha512::digest(&archive));
    let index = serve(VERSION, &hash, whole, archive).await;
    let cache = tempfile::tempdir().unwrap();
    fetch_into(cache.path(), &index).await.unwrap();

    let mut names = Vec::new();
    for entry in fs::read_dir(cache.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o755);
        names.push(entry.file_name().into_string().unwrap());
    }
    names.sort();
    assert_eq!(names, ["etcd", "kube-apiserver"]);
    let content = fs::read_to_string(cache.path().join("etcd")).unwrap();
    assert_eq!(content, "etcd");
}

#[tokio::test]
async fn another_patch_of_the_same_minor_version_will_do() {
    let archive = archive_with(&["etcd", "kube-apiserver"]);
    let hash = hex(&Sha512::digest(&archive));
    let index = serve("v1.36.0", &hash, whole, archive).await;
    let cache = tempfile::tempdir().unwrap();
    fetch_into(cache.path(), &index).await.unwrap();
}

#[tokio::test]
async fn another_minor_version_will_not() {
    let index = serve("v1.3.6", "00", whole, Vec::new()).await;
    assert!(refused(&index).await.contains("there is none of v1.36.2"));
}

#[tokio::test]
async fn a_wrong_checksum_is_refused() {
    let archive = archive_with(&["etcd", "kube-apiserver"]);
    let index = serve(VERSION, &"0".repeat(128), whole, archive).await;
    assert!(refused(&index).await.contains("has the checksum"));
}

#[tokio::test]
async fn an_archive_cut_short_is_refused() {
    let archive = archive_with(&["etcd", "kube-apiserver"]);
    let hash = hex(&Sha512::digest(&archive));
    let index = serve(VERSION, &hash, cut_short, archive).await;
    refused(&index).await;
}

#[tokio::test]
async fn an_archive_without_a_server_is_refused() {
    let archive = archive_with(&["kube-apiserver"]);
    let hash = hex(&Sha512::digest(&archive));
    let index = serve(VERSION, &hash, whole, archive).await;
    refused(&index).await;
}

#[tokio::test]
async fn an_absent_archive_and_an_absent_index_are_reported() {
    let index = serve(VERSION, "00", absent, Vec::new()).await;
    assert!(refused(&index).await.contains("404"));
    assert!(refused(&index.replace("/index", "/none")).await.contains("404"));
}

#[tokio::test]
async fn an_index_that_is_no_index_is_reported() {
    let index = serve(VERSION, "00", whole, b"hello".to_vec()).await;
    let page = index.replace("/index", "/archive");
    assert!(refused(&page).await.contains("its index can't be read"));
}

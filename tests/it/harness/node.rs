//! A whole node in this process.

use std::net::SocketAddr;

use portolan::node::{Node, Options};
use portolan::prepare::{Origin, prepare};

use super::client::Client;
use super::folder::Folder;
use super::http::Api;

/// A running node and its folder.
pub(crate) struct TestNode {
    pub(crate) node: Node,
    pub(crate) folder: Folder,
    pub(crate) dns: SocketAddr,
    /// The API over the socket, where everything is permitted.
    pub(crate) api: Api,
}

impl TestNode {
    pub(crate) async fn start(folder: Folder) -> Self {
        let origin = Origin::File(folder.config());
        let prepared = prepare(&origin).unwrap_or_else(|why| panic!("{why}"));
        let node = Node::start(origin, prepared, Options::default()).await.expect("a node");
        let (dns, api) = (node.dns_addresses[0], Api::socket(&folder.socket()));
        Self { node, folder, dns, api }
    }

    /// Starts a node with a config of the usual head and `rest`.
    pub(crate) async fn with(rest: &str) -> Self {
        Self::start(Folder::new(rest)).await
    }

    pub(crate) async fn client(&self) -> Client {
        Client::of(self.dns).await
    }

    pub(crate) fn control(&self) -> SocketAddr {
        self.node.control_address.expect("the config has one")
    }

    /// Stops it and returns its folder.
    pub(crate) async fn stop(self) -> Folder {
        self.node.stop("the test").await;
        self.folder
    }

    pub(crate) async fn restart(self) -> Self {
        Self::start(self.stop().await).await
    }
}

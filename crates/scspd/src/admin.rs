//! The admin listener: `/metrics`, `/healthz`, `/readyz`, `/status`.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use scsp_engine::message::Abnormal;
use scsp_engine::{Control, InstanceIndex, Now};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::client::health;
use crate::hub::Hub;

/// What the listener asks of the control thread.
#[derive(Debug)]
pub enum Request {
    /// Everything Prometheus scrapes, in its text format.
    Metrics(oneshot::Sender<String>),
    /// Whether clients are served.
    Ready(oneshot::Sender<Result<(), String>>),
    /// State of the hub.
    Status(oneshot::Sender<Value>),
}

type Requests = mpsc::Sender<Request>;

/// Serves until the listener fails or the task is aborted.
pub async fn serve(listener: tokio::net::TcpListener, requests: Requests) {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/status", get(status_page))
        .with_state(requests);
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "admin listener failed");
    }
}

/// Asks the control thread; `None` while it stops.
async fn ask<T>(
    requests: &Requests,
    request: impl FnOnce(oneshot::Sender<T>) -> Request,
) -> Option<T> {
    let (reply, answer) = oneshot::channel();
    requests.send(request(reply)).await.ok()?;
    answer.await.ok()
}

fn stopping() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response()
}

async fn metrics(State(requests): State<Requests>) -> Response {
    match ask(&requests, Request::Metrics).await {
        Some(text) => (
            [(
                header::CONTENT_TYPE,
                "text/plain; version=0.0.4; charset=utf-8",
            )],
            text,
        )
            .into_response(),
        None => stopping(),
    }
}

async fn readyz(State(requests): State<Requests>) -> Response {
    match ask(&requests, Request::Ready).await {
        Some(Ok(())) => "ready\n".into_response(),
        Some(Err(reason)) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response()
        }
        None => stopping(),
    }
}

async fn status_page(State(requests): State<Requests>) -> Response {
    match ask(&requests, Request::Status).await {
        Some(status) => (
            [(header::CONTENT_TYPE, "application/json")],
            format!("{status:#}\n"),
        )
            .into_response(),
        None => stopping(),
    }
}

/// Ready once no instance waits for its neighbours (D-09) and every worker knows.
pub fn readiness(hub: &Hub, control: &Control) -> Result<(), String> {
    let is_released = |instance| !control.is_held(instance) && hub.is_released(instance);
    let mut groups = (0..).map(InstanceIndex).zip(&hub.groups);
    match groups.find(|(instance, _)| !is_released(*instance)) {
        Some((_, group)) => Err(format!("group {} waits for its neighbours", group.name)),
        None => Ok(()),
    }
}

/// The hub in one JSON document.
pub fn status(hub: &Hub, control: &Control, now: Now) -> Value {
    let groups: Vec<Value> = (0..)
        .map(InstanceIndex)
        .zip(&hub.groups)
        .map(|(instance, group)| {
            let entries: u64 = hub
                .stats
                .iter()
                .map(|worker| worker.instances[instance.index()].entries.get())
                .sum();
            json!({
                "name": group.name,
                "protocol": group.protocol.to_string(),
                "id": group.id.0,
                "entries": entries,
                "loading": control.is_held(instance),
            })
        })
        .collect();
    let peers: Vec<Value> = hub
        .peers()
        .map(|(dcs, info)| {
            let peer = control.peer(dcs);
            let worker = |value: fn(&crate::stats::DcsStats) -> u64| -> u64 {
                hub.stats
                    .iter()
                    .map(|worker| value(&worker.dcs[dcs.index()]))
                    .sum()
            };
            json!({
                "group": hub.groups[info.group.index()].name,
                "peer": info.address.to_string(),
                "id": peer.id.map(|id| id.to_string()),
                "hello": peer.hello.label(),
                "alignment": peer.alignment.label(),
                "since": now.time.since(peer.since).as_secs(),
                "last_hello": peer.last_hello.map(|at| now.time.since(at).as_secs()),
                "role": peer.role.map(scsp_engine::alignment::Role::label),
                "queue": worker(|dcs| dcs.queue.get()),
                "requests": worker(|dcs| dcs.requests.get()),
                "abnormal": peer.abnormal.iter().sum::<u64>(),
                "abnormal_events": Abnormal::ALL
                    .into_iter()
                    .zip(peer.abnormal)
                    .map(|(cause, count)| (cause.label().to_owned(), count.into()))
                    .collect::<serde_json::Map<_, _>>(),
            })
        })
        .collect();
    let health = health(hub, control);
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "id": hub.lsid().to_string(),
        "backend": hub.backend.label(),
        "uptime": now.unix_ms.saturating_sub(hub.started_unix_ms) / 1000,
        "healthy": health.is_ok(),
        "reason": health.err().unwrap_or_default(),
        "workers": hub.workers(),
        "groups": groups,
        "peers": peers,
    })
}

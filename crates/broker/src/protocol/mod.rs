//! From a frame to an answer: the request's header, its shape, the dispatch to `api`.

mod answer;
#[cfg(test)]
mod samples;
mod shape;

use std::fmt::{self, Debug, Formatter};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion};

use crate::api;
use crate::api::versions::{name, spoken};
use crate::config::Durability;
use crate::peer::Peer;
use crate::sasl::Closing;
use crate::state::State;

pub(crate) use answer::{Answer, Piece};
#[cfg(test)]
pub(crate) use samples::sample_requests;

/// An outcome to be waited for. It never comes to another `Later`.
pub(crate) struct Later(Pin<Box<dyn Future<Output = Outcome> + Send>>);

impl Debug for Later {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("Later")
    }
}

impl Future for Later {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        self.0.as_mut().poll(context)
    }
}

#[derive(Debug)]
pub(crate) enum Outcome {
    Answer(Answer),
    /// Answered when the disk has what the answer promises; the next request may begin meanwhile.
    Later(Later),
    /// Produce with acks=0 is not answered.
    Silence,
    /// The client is not let in: the connection ends, after a delay and the answer if there is one.
    Reject(Option<Answer>, String),
    /// The bytes are no request that can be answered.
    Close(String),
}

pub(crate) async fn handle(state: &Arc<State>, peer: &mut Peer, mut frame: Bytes) -> Outcome {
    if peer.session.expects_raw_token() {
        return match Box::pin(peer.session.raw_token(state.sasl.as_ref(), &frame)).await {
            Ok(token) => Outcome::Answer(Answer::raw(&token)),
            Err(reason) => Outcome::Reject(None, reason),
        };
    }
    let frame_len = frame.len();
    let Some((key, version)) = frame.first_chunk::<8>().map(|head| {
        (
            i16::from_be_bytes([head[0], head[1]]),
            i16::from_be_bytes([head[2], head[3]]),
        )
    }) else {
        return Outcome::Close("a request shorter than its header".to_owned());
    };
    let Ok(api_key) = ApiKey::try_from(key) else {
        return Outcome::Close(format!("unknown API key {key}"));
    };
    let Some(range) = spoken(api_key) else {
        return Outcome::Close(format!("{api_key:?} is not supported"));
    };
    if !range.contains(&version) {
        let correlation_id = i32::from_be_bytes([frame[4], frame[5], frame[6], frame[7]]);
        if api_key == ApiKey::ApiVersions {
            // KIP-511: the client learns from a version 0 answer what to ask with.
            return reply(correlation_id, 0, &api::versions::too_new());
        }
        return Outcome::Close(format!(
            "{api_key:?} version {version} is not supported, {} to {} are",
            range.start(),
            range.end()
        ));
    }
    let header = match RequestHeader::decode(&mut frame, api_key.request_header_version(version)) {
        Ok(header) => header,
        Err(error) => return Outcome::Close(format!("{api_key:?} version {version}: bad header: {error}")),
    };
    if !shape::fits(api_key, version, &frame) {
        return Outcome::Close(format!(
            "{api_key:?} version {version}: counts and lengths do not fit the request"
        ));
    }
    if let Err(reason) = peer.session.admit(api_key) {
        return Outcome::Reject(None, reason);
    }
    let client_id = header.client_id.as_deref().unwrap_or("");
    if peer.client_id != client_id {
        client_id.clone_into(&mut peer.client_id);
    }
    let started = Instant::now();
    let received = 4 + frame_len as u64;
    let outcome = dispatch(state, peer, api_key, version, header.correlation_id, frame).await;
    let api = name(api_key);
    metrics::counter!("smartcity_broker_requests", "api" => api).increment(1);
    metrics::counter!("smartcity_broker_received_bytes", "api" => api).increment(received);
    match outcome {
        Outcome::Later(later) => Outcome::Later(Later(Box::pin(async move {
            let outcome = later.await;
            count_answer(api, started, &outcome);
            outcome
        }))),
        outcome => {
            count_answer(api, started, &outcome);
            outcome
        }
    }
}

fn count_answer(api: &'static str, started: Instant, outcome: &Outcome) {
    if let Outcome::Answer(answer) = outcome {
        metrics::counter!("smartcity_broker_sent_bytes", "api" => api).increment(answer.len as u64);
    }
    metrics::histogram!("smartcity_broker_request_seconds", "api" => api).record(started.elapsed().as_secs_f64());
}

/// Whether a frame is a Produce request: the only one that may begin while others of its connection are not answered.
pub(crate) fn is_produce(frame: &[u8]) -> bool {
    frame.first_chunk() == Some(&(ApiKey::Produce as i16).to_be_bytes())
}

async fn dispatch(
    state: &Arc<State>,
    peer: &mut Peer,
    api_key: ApiKey,
    version: i16,
    correlation_id: i32,
    mut body: Bytes,
) -> Outcome {
    macro_rules! answer {
        ($type:ident, $request:pat => $answer:expr) => {{
            match $type::decode(&mut body, version) {
                Ok($request) => reply(correlation_id, version, &$answer),
                Err(error) => malformed(api_key, version, &error),
            }
        }};
    }
    macro_rules! answer_on_disk {
        ($type:ident, $state:ident, $request:ident => $answer:expr) => {{
            match $type::decode(&mut body, version) {
                Ok($request) => match waiting(state, move |$state| $answer).await {
                    Ok(answer) => reply(correlation_id, version, &answer),
                    Err(reason) => Outcome::Close(reason),
                },
                Err(error) => malformed(api_key, version, &error),
            }
        }};
    }
    let sasl = state.sasl.as_ref();
    match api_key {
        ApiKey::SaslHandshake => match SaslHandshakeRequest::decode(&mut body, version) {
            Ok(request) => {
                let (answer, closing) = peer.session.handshake(sasl, version, &request);
                last(reply(correlation_id, version, &answer), closing)
            }
            Err(error) => malformed(api_key, version, &error),
        },
        ApiKey::SaslAuthenticate => match SaslAuthenticateRequest::decode(&mut body, version) {
            Ok(request) => {
                let (answer, closing) = Box::pin(peer.session.authenticate(sasl, request)).await;
                last(reply(correlation_id, version, &answer), closing)
            }
            Err(error) => malformed(api_key, version, &error),
        },
        ApiKey::ApiVersions => answer!(ApiVersionsRequest, r => api::versions::versions(version, &r)),
        ApiKey::Metadata => answer!(MetadataRequest, r => api::metadata::metadata(state, version, r)),
        ApiKey::Produce => match ProduceRequest::decode(&mut body, version) {
            Ok(request) => {
                let silent = request.acks == 0;
                let produced = api::produce::produce(state, version, request);
                let is_ready = produced.is_ready();
                let answer = async move { reply(correlation_id, version, &produced.answer().await) };
                if silent {
                    Outcome::Silence
                } else if is_ready {
                    answer.await
                } else {
                    Outcome::Later(Later(Box::pin(answer)))
                }
            }
            Err(error) => malformed(api_key, version, &error),
        },
        ApiKey::Fetch => match FetchRequest::decode(&mut body, version) {
            Ok(request) => {
                let (answer, records) = api::fetch::fetch(state, version, request).await;
                outcome(Answer::encode_fetch(correlation_id, version, answer, records))
            }
            Err(error) => malformed(api_key, version, &error),
        },
        ApiKey::ListOffsets => answer!(ListOffsetsRequest, r => api::offsets::list_offsets(state, version, r).await),
        ApiKey::OffsetForLeaderEpoch => {
            answer!(OffsetForLeaderEpochRequest, r => api::offsets::for_leader_epoch(state, r))
        }
        ApiKey::CreateTopics => answer!(CreateTopicsRequest, r => api::topics::create(state, version, r)),
        ApiKey::FindCoordinator => answer!(FindCoordinatorRequest, r => api::groups::find(state, version, r)),
        ApiKey::JoinGroup => answer!(JoinGroupRequest, r => api::groups::join(state, peer, version, r).await),
        ApiKey::SyncGroup => answer!(SyncGroupRequest, r => api::groups::sync(state, version, r).await),
        ApiKey::Heartbeat => answer!(HeartbeatRequest, r => api::groups::heartbeat(state, r)),
        ApiKey::LeaveGroup => answer!(LeaveGroupRequest, r => api::groups::leave(state, version, r)),
        ApiKey::OffsetCommit => {
            answer_on_disk!(OffsetCommitRequest, state, r => api::group_offsets::commit(state, version, r))
        }
        ApiKey::OffsetFetch => answer!(OffsetFetchRequest, r => api::group_offsets::fetch(state, version, r)),
        ApiKey::InitProducerId => {
            answer_on_disk!(InitProducerIdRequest, state, r => api::transactions::init(state, version, r))
        }
        ApiKey::AddPartitionsToTxn => {
            answer!(AddPartitionsToTxnRequest, r => api::transactions::add_partitions(state, version, r))
        }
        ApiKey::AddOffsetsToTxn => {
            answer!(AddOffsetsToTxnRequest, r => api::transactions::add_offsets(state, version, r))
        }
        ApiKey::TxnOffsetCommit => {
            answer_on_disk!(TxnOffsetCommitRequest, state, r => api::transactions::commit_offsets(state, r))
        }
        ApiKey::EndTxn => {
            answer_on_disk!(EndTxnRequest, state, r => api::transactions::end(state, version, r))
        }
        ApiKey::DescribeProducers => answer!(DescribeProducersRequest, r => api::transactions::producers(state, r)),
        ApiKey::DescribeTransactions => {
            answer!(DescribeTransactionsRequest, r => api::transactions::describe(state, r))
        }
        ApiKey::ListTransactions => answer!(ListTransactionsRequest, r => api::transactions::list(state, r)),
        ApiKey::DeleteTopics => answer!(DeleteTopicsRequest, r => api::admin::delete_topics(state, version, r)),
        ApiKey::CreatePartitions => answer!(CreatePartitionsRequest, r => api::admin::create_partitions(state, r)),
        ApiKey::DeleteRecords => answer!(DeleteRecordsRequest, r => api::admin::delete_records(state, r)),
        ApiKey::DescribeConfigs => answer!(DescribeConfigsRequest, r => api::admin::describe_configs(state, r)),
        ApiKey::AlterConfigs => answer!(AlterConfigsRequest, r => api::admin::alter_configs(state, r)),
        ApiKey::IncrementalAlterConfigs => {
            answer!(IncrementalAlterConfigsRequest, r => api::admin::incremental_alter_configs(state, r))
        }
        ApiKey::DescribeCluster => {
            answer!(DescribeClusterRequest, r => api::admin::describe_cluster(state, version, r))
        }
        ApiKey::DescribeLogDirs => answer!(DescribeLogDirsRequest, r => api::admin::describe_log_dirs(state, r)),
        ApiKey::ListGroups => answer!(ListGroupsRequest, r => api::group_admin::list(state, r)),
        ApiKey::DescribeGroups => answer!(DescribeGroupsRequest, r => api::group_admin::describe(state, version, r)),
        ApiKey::DeleteGroups => {
            answer_on_disk!(DeleteGroupsRequest, state, r => api::group_admin::delete(state, r))
        }
        ApiKey::OffsetDelete => {
            answer_on_disk!(OffsetDeleteRequest, state, r => api::group_admin::delete_offsets(state, r))
        }
        _ => Outcome::Close(format!("{api_key:?} is not supported")),
    }
}

/// Answers what may wait for the disk, where that holds up no other connection.
async fn waiting<A: Send + 'static>(
    state: &Arc<State>,
    answer: impl FnOnce(&State) -> A + Send + 'static,
) -> Result<A, String> {
    match state.config.durability {
        Durability::Os => Ok(answer(state)),
        Durability::Fsync => {
            let state = Arc::clone(state);
            let answering = tokio::task::spawn_blocking(move || answer(&state));
            answering
                .await
                .map_err(|error| format!("the request was given up: {error}"))
        }
    }
}

fn malformed(api_key: ApiKey, version: i16, error: &dyn std::fmt::Display) -> Outcome {
    Outcome::Close(format!("{api_key:?} version {version} cannot be read: {error}"))
}

/// The answer, and the end of the connection when there is a reason for it.
fn last(outcome: Outcome, closing: Closing) -> Outcome {
    match (outcome, closing) {
        (Outcome::Answer(answer), Some(reason)) => Outcome::Reject(Some(answer), reason),
        (outcome, _) => outcome,
    }
}

fn reply<R: Encodable + HeaderVersion>(correlation_id: i32, version: i16, answer: &R) -> Outcome {
    outcome(Answer::encode(correlation_id, version, answer))
}

fn outcome(answer: Result<Answer, impl std::fmt::Display>) -> Outcome {
    match answer {
        Ok(answer) => Outcome::Answer(answer),
        Err(error) => Outcome::Close(format!("an answer could not be encoded: {error}")),
    }
}

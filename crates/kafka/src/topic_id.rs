//! A topic's id, by librdkafka's DescribeTopics.
#![allow(
    unsafe_code,
    reason = "the safe API (rdkafka 0.39) has no DescribeTopics, and its metadata no ids"
)]

use std::ffi::{CStr, CString};
use std::ptr::{self, NonNull};
use std::time::Duration;

use rdkafka::admin::AdminClient;
use rdkafka::error::{KafkaError as Native, RDKafkaErrorCode};
use rdkafka::types::{RDKafkaAdminOptions, RDKafkaEvent, RDKafkaQueue, RDKafkaRespErr};
use rdkafka_sys as native;

use crate::client_log::QuietContext;
use crate::properties::Role;
use crate::{KafkaConfig, KafkaError, TopicIds};

/// [`TopicIds`] by a client of its own, which waits for no consumer and outlives any.
pub(crate) struct KafkaTopicIds {
    client: AdminClient<QuietContext>,
    bootstrap_servers: String,
}

impl KafkaTopicIds {
    pub(crate) fn open(config: &KafkaConfig) -> Result<Self, KafkaError> {
        let client = config
            .client(Role::Admin, &[])
            .create_with_context(QuietContext::default());
        Ok(Self {
            client: client.map_err(|error| KafkaError::from_call(&config.bootstrap_servers, &error))?,
            bootstrap_servers: config.bootstrap_servers.clone(),
        })
    }
}

impl TopicIds for KafkaTopicIds {
    fn topic_id(&self, topic: &str, timeout: Duration) -> Result<Option<String>, KafkaError> {
        fetch_topic_id(&self.client, topic, timeout)
            .map_err(|code| KafkaError::from_call(&self.bootstrap_servers, &Native::MetadataFetch(code)))
    }
}

fn fetch_topic_id(
    client: &AdminClient<QuietContext>,
    topic: &str,
    timeout: Duration,
) -> Result<Option<String>, RDKafkaErrorCode> {
    let topic = CString::new(topic).map_err(|_| RDKafkaErrorCode::InvalidTopic)?;
    let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: all that is made here is destroyed here, once, by `Owned`, and the client outlives it; librdkafka copies the
    // collection and the options, and the answer is read before its event goes.
    unsafe {
        let client = client.inner().native_ptr();
        let queue = Owned::new(native::rd_kafka_queue_new(client), native::rd_kafka_queue_destroy)?;
        let operation = native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        let options: Owned<RDKafkaAdminOptions> = Owned::new(
            native::rd_kafka_AdminOptions_new(client, operation),
            native::rd_kafka_AdminOptions_destroy,
        )?;
        check(native::rd_kafka_AdminOptions_set_request_timeout(
            options.get(),
            timeout_ms,
            ptr::null_mut(),
            0,
        ))?;
        let mut names = [topic.as_ptr()];
        let topics = Owned::new(
            native::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len()),
            native::rd_kafka_TopicCollection_destroy,
        )?;
        native::rd_kafka_DescribeTopics(client, topics.get(), options.get(), queue.get());
        let event = answer(&queue, timeout_ms)?;
        check(native::rd_kafka_event_error(event.get()))?;
        let result = native::rd_kafka_event_DescribeTopics_result(event.get());
        let mut count = 0;
        let described = native::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        if count != 1 {
            return Ok(None);
        }
        let error = native::rd_kafka_TopicDescription_error(*described);
        match check(native::rd_kafka_error_code(error)) {
            Err(RDKafkaErrorCode::UnknownTopicOrPartition) => return Ok(None),
            result => result?,
        }
        let id = native::rd_kafka_TopicDescription_topic_id(*described);
        let bits = native::rd_kafka_Uuid_most_significant_bits(id) | native::rd_kafka_Uuid_least_significant_bits(id);
        if bits == 0 {
            return Ok(None);
        }
        let id = CStr::from_ptr(native::rd_kafka_Uuid_base64str(id));
        Ok(Some(id.to_string_lossy().into_owned()))
    }
}

/// # Safety
/// The queue is alive.
unsafe fn answer(queue: &Owned<RDKafkaQueue>, timeout_ms: i32) -> Result<Owned<RDKafkaEvent>, RDKafkaErrorCode> {
    // SAFETY: as the caller says. The request's own time-out comes first.
    let event = unsafe { native::rd_kafka_queue_poll(queue.get(), timeout_ms.saturating_add(1000)) };
    Owned::new(event, native::rd_kafka_event_destroy).map_err(|_| RDKafkaErrorCode::OperationTimedOut)
}

fn check(code: RDKafkaRespErr) -> Result<(), RDKafkaErrorCode> {
    match code {
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
        code => Err(code.into()),
    }
}

/// Something of librdkafka's and how it is destroyed.
struct Owned<T> {
    pointer: NonNull<T>,
    destroy: unsafe extern "C" fn(*mut T),
}

impl<T> Owned<T> {
    fn new(pointer: *mut T, destroy: unsafe extern "C" fn(*mut T)) -> Result<Self, RDKafkaErrorCode> {
        match NonNull::new(pointer) {
            Some(pointer) => Ok(Self { pointer, destroy }),
            None => Err(RDKafkaErrorCode::CriticalSystemResource),
        }
    }

    fn get(&self) -> *mut T {
        self.pointer.as_ptr()
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: it is ours, and used no more.
        unsafe { (self.destroy)(self.pointer.as_ptr()) }
    }
}

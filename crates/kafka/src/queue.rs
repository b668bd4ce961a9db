//! All partitions' records through one librdkafka queue, taken in batches.
//!
//! The safe API hands records over one by one at 0.5 microseconds each; `rd_kafka_consume_batch_queue` takes 0.33
//! (measured with 290-byte records on one core), which is a third of the whole budget for a million rows a second. The
//! five calls that need `unsafe` are all here.
#![allow(unsafe_code, reason = "measured above: batches cost two thirds of single records")]

use std::ffi::{CStr, CString, c_char, c_void};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::slice;
use std::time::Duration;

use model::TopicPartition;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::types::{RDKafkaMessage, RDKafkaQueue, RDKafkaRespErr};
use rdkafka_sys as native;

use crate::KafkaError;
use crate::context::Consumer;

/// A queue of one consumer that the consumer's partitions are forwarded to.
pub(crate) struct RecordQueue {
    queue: NonNull<RDKafkaQueue>,
    buffer: Vec<*mut RDKafkaMessage>,
}

// SAFETY: librdkafka's queues are thread-safe; the buffer is empty between calls.
unsafe impl Send for RecordQueue {}

/// One record or event, borrowed from librdkafka until the batch is dropped.
pub(crate) struct Message<'a> {
    message: &'a RDKafkaMessage,
    _batch: PhantomData<&'a ()>,
}

/// What a batch holds; frees it when dropped.
pub(crate) struct Batch<'a>(&'a mut [*mut RDKafkaMessage]);

impl RecordQueue {
    /// `capacity` is the most one batch may hold.
    pub(crate) fn new(consumer: &Consumer, capacity: usize) -> Result<Self, KafkaError> {
        // SAFETY: the client outlives the queue: `KafkaSource` drops the queue first.
        let queue = unsafe { native::rd_kafka_queue_new(consumer.client().native_ptr()) };
        let queue = NonNull::new(queue).ok_or_else(|| KafkaError::Fatal("no memory for a queue".to_owned()))?;
        Ok(Self {
            queue,
            buffer: vec![ptr::null_mut(); capacity],
        })
    }

    /// Sends a partition's records here from now on. Must come before the partition is assigned, so that none of its
    /// records takes the other way and overtakes: librdkafka sets no forward of its own where the application has set one.
    /// It takes the application's away when it stops fetching, which it does some time after the partition was unassigned.
    pub(crate) fn forward(&self, consumer: &Consumer, partition: &TopicPartition) -> Result<(), KafkaError> {
        let topic =
            CString::new(&*partition.topic).map_err(|_| KafkaError::Config("NUL in a topic's name".to_owned()))?;
        // SAFETY: pointers are valid for the calls; the partition's queue reference is given back at once, the forward
        // stays.
        unsafe {
            let client = consumer.client().native_ptr();
            let queue = native::rd_kafka_queue_get_partition(client, topic.as_ptr(), partition.partition);
            if queue.is_null() {
                return Err(KafkaError::Fatal(format!("{partition}: no queue")));
            }
            native::rd_kafka_queue_forward(queue, self.queue.as_ptr());
            native::rd_kafka_queue_destroy(queue);
        }
        Ok(())
    }

    /// Waits for records, at most `timeout`; it is waited out unless the batch fills.
    pub(crate) fn consume(&mut self, timeout: Duration) -> Batch<'_> {
        let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the buffer has room for as many pointers as it says.
        let taken = unsafe {
            native::rd_kafka_consume_batch_queue(
                self.queue.as_ptr(),
                timeout_ms,
                self.buffer.as_mut_ptr(),
                self.buffer.len(),
            )
        };
        Batch(&mut self.buffer[..usize::try_from(taken).unwrap_or_default()])
    }
}

impl Drop for RecordQueue {
    fn drop(&mut self) {
        // SAFETY: the queue is ours and not used after this.
        unsafe { native::rd_kafka_queue_destroy(self.queue.as_ptr()) }
    }
}

impl Batch<'_> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = Message<'_>> {
        // SAFETY: librdkafka filled these pointers, and they stay valid until `drop` below.
        self.0.iter().map(|message| Message {
            message: unsafe { &**message },
            _batch: PhantomData,
        })
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        for message in self.0.iter() {
            // SAFETY: each message is ours and destroyed once.
            unsafe { native::rd_kafka_message_destroy(*message) }
        }
    }
}

impl<'a> Message<'a> {
    /// A value that is the same for all messages of one topic of one client.
    pub(crate) fn topic_handle(&self) -> usize {
        self.message.rkt as usize
    }

    pub(crate) fn topic(&self) -> &'a str {
        // SAFETY: a message that has a topic handle keeps its topic alive; the name is UTF-8 as Kafka allows ASCII only.
        unsafe {
            if self.message.rkt.is_null() {
                return "";
            }
            CStr::from_ptr(native::rd_kafka_topic_name(self.message.rkt))
                .to_str()
                .unwrap_or_default()
        }
    }

    pub(crate) fn partition(&self) -> i32 {
        self.message.partition
    }

    pub(crate) fn offset(&self) -> i64 {
        self.message.offset
    }

    /// `None` for a record, else what happened.
    pub(crate) fn error(&self) -> Option<RDKafkaErrorCode> {
        (self.message.err != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| self.message.err.into())
    }

    pub(crate) fn value(&self) -> Option<&'a [u8]> {
        bytes(self.message.payload, self.message.len)
    }

    pub(crate) fn key(&self) -> Option<&'a [u8]> {
        bytes(self.message.key, self.message.key_len)
    }

    /// Milliseconds since the epoch; -1 when there is none.
    pub(crate) fn timestamp_ms(&self) -> i64 {
        let mut kind = native::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is alive.
        unsafe { native::rd_kafka_message_timestamp(self.message, &mut kind) }
    }

    /// Name and value of each header.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (&'a str, Option<&'a [u8]>)> {
        let mut headers = ptr::null_mut();
        // SAFETY: the message is alive; what it gives belongs to it.
        let error = unsafe { native::rd_kafka_message_headers(self.message, &mut headers) };
        let mut index = 0;
        std::iter::from_fn(move || {
            if error != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                return None;
            }
            let (mut name, mut value, mut len) = (ptr::null::<c_char>(), ptr::null::<c_void>(), 0);
            // SAFETY: as above; librdkafka fills all three or answers an error past the last header.
            unsafe {
                let error = native::rd_kafka_header_get_all(headers, index, &mut name, &mut value, &mut len);
                if error != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                    return None;
                }
                index += 1;
                Some((CStr::from_ptr(name).to_str().unwrap_or_default(), bytes(value, len)))
            }
        })
    }
}

fn bytes<'a>(start: *const c_void, len: usize) -> Option<&'a [u8]> {
    // SAFETY: librdkafka gives a pointer to `len` bytes that live as long as the message, or null.
    (!start.is_null()).then(|| unsafe { slice::from_raw_parts(start.cast(), len) })
}

/// The high watermark that the last fetch response carried.
pub(crate) fn cached_high_watermark(consumer: &Consumer, partition: &TopicPartition) -> Option<i64> {
    let topic = CString::new(&*partition.topic).ok()?;
    let (mut low, mut high) = (0, 0);
    // SAFETY: pointers are valid for the call.
    let error = unsafe {
        let client = consumer.client().native_ptr();
        native::rd_kafka_get_watermark_offsets(client, topic.as_ptr(), partition.partition, &mut low, &mut high)
    };
    (error == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some(high)
}

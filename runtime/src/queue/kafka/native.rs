//! What the crate does not offer of librdkafka, or not soundly: what a consumer group has committed, as asking by a consumer of its own for each
//! group would cost a client with its threads and connections each time; a commit that is answered without blocking; and a topic's handle. The
//! only unsafe code of this adapter.

use std::ffi::{CStr, CString, c_void};
use std::ptr;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::bindings as native;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::types::{RDKafka, RDKafkaRespErr, RDKafkaTopic};

/// What a group has committed of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Committed {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) metadata: String,
}

/// Something of librdkafka's, and how it is given back.
struct Owned<T>(*mut T, unsafe extern "C" fn(*mut T));

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: made by the function that stands beside its destructor below, never null, and given back once.
        unsafe { (self.1)(self.0) }
    }
}

impl<T> Owned<T> {
    fn new(made: *mut T, end: unsafe extern "C" fn(*mut T)) -> Result<Self, KafkaError> {
        if made.is_null() { Err(KafkaError::Canceled) } else { Ok(Self(made, end)) }
    }
}

/// Asks the cluster and waits for the answer: `send` puts the question, to be answered on the queue that it is given.
///
/// # Safety
/// `client` is live for as long as the call.
#[expect(unsafe_code, reason = "the crate has no safe way to these questions")]
unsafe fn ask(
    client: *mut RDKafka,
    kind: native::rd_kafka_admin_op_t,
    most: Duration,
    send: impl FnOnce(*mut native::rd_kafka_AdminOptions_t, *mut native::rd_kafka_queue_t),
) -> Result<Owned<native::rd_kafka_event_t>, KafkaError> {
    let millis = i32::try_from(most.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: `client` is live as the caller promises; what is made here is checked and owned, and outlives its use.
    unsafe {
        let queue = Owned::new(native::rd_kafka_queue_new(client), native::rd_kafka_queue_destroy)?;
        let options = Owned::new(native::rd_kafka_AdminOptions_new(client, kind), native::rd_kafka_AdminOptions_destroy)?;
        native::rd_kafka_AdminOptions_set_request_timeout(options.0, millis, ptr::null_mut(), 0);
        send(options.0, queue.0);
        let event = native::rd_kafka_queue_poll(queue.0, millis);
        let Ok(event) = Owned::new(event, native::rd_kafka_event_destroy) else {
            return Err(KafkaError::OffsetFetch(RDKafkaErrorCode::OperationTimedOut));
        };
        check(native::rd_kafka_event_error(event.0))?;
        Ok(event)
    }
}

/// All that a group has committed. `client` is any live client of the cluster.
///
/// # Errors
/// When the group's coordinator does not answer in time, or refuses.
pub(super) fn of_group(client: *mut RDKafka, group: &str, most: Duration) -> Result<Vec<Committed>, KafkaError> {
    let group = CString::new(group).map_err(KafkaError::Nul)?;
    let kind = native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS;
    // SAFETY: `client` is live for as long as the caller's borrow of its owner; what is made is checked and owned, and what is read of the
    // answer is copied before that is given back, as librdkafka asks.
    #[expect(unsafe_code, reason = "the crate has no safe way to list the offsets of another group")]
    unsafe {
        let asked = native::rd_kafka_ListConsumerGroupOffsets_new(group.as_ptr(), ptr::null());
        let mut asked = Owned::new(asked, native::rd_kafka_ListConsumerGroupOffsets_destroy)?;
        let answer = ask(client, kind, most, |options, queue| {
            native::rd_kafka_ListConsumerGroupOffsets(client, &mut asked.0, 1, options, queue);
        })?;
        let mut count = 0;
        let result = native::rd_kafka_event_ListConsumerGroupOffsets_result(answer.0);
        let groups = native::rd_kafka_ListConsumerGroupOffsets_result_groups(result, &mut count);
        read(groups, count)
    }
}

/// Removes what a group has committed of a topic; others may be in the group, for other topics.
///
/// # Errors
/// When the group's coordinator does not answer in time, or refuses.
pub(super) fn remove(client: *mut RDKafka, group: &str, what: &TopicPartitionList, most: Duration) -> Result<(), KafkaError> {
    let group = CString::new(group).map_err(KafkaError::Nul)?;
    let kind = native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DELETECONSUMERGROUPOFFSETS;
    // SAFETY: as above; the list is copied by librdkafka.
    #[expect(unsafe_code, reason = "the crate has no way to remove the offsets of one topic")]
    unsafe {
        let asked = native::rd_kafka_DeleteConsumerGroupOffsets_new(group.as_ptr(), what.ptr());
        let mut asked = Owned::new(asked, native::rd_kafka_DeleteConsumerGroupOffsets_destroy)?;
        let answer = ask(client, kind, most, |options, queue| {
            native::rd_kafka_DeleteConsumerGroupOffsets(client, &mut asked.0, 1, options, queue);
        })?;
        let mut count = 0;
        let result = native::rd_kafka_event_DeleteConsumerGroupOffsets_result(answer.0);
        let groups = native::rd_kafka_DeleteConsumerGroupOffsets_result_groups(result, &mut count);
        read(groups, count).map(drop)
    }
}

/// Commits, and has the answer told to the consumer's context when it is polled: the crate's own way (0.39) leaves it to a callback that it
/// never registers, so that nobody would hear of it.
///
/// # Errors
/// When the client is not in a group, or ends.
pub(super) fn commit(consumer: *mut RDKafka, what: &TopicPartitionList) -> Result<(), KafkaError> {
    // SAFETY: `consumer` is live for as long as the caller's borrow of its owner; its queue is checked and owned, and librdkafka keeps what it
    // needs of it and of the list.
    #[expect(unsafe_code, reason = "the crate has no way to commit that is answered and does not block")]
    unsafe {
        let queue = Owned::new(native::rd_kafka_queue_get_consumer(consumer), native::rd_kafka_queue_destroy)?;
        match native::rd_kafka_commit_queue(consumer, what.ptr(), queue.0, None, ptr::null_mut()) {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
            error => Err(KafkaError::ConsumerCommit(error.into())),
        }
    }
}

/// What stands in an answer.
///
/// # Safety
/// `groups` are so many of an answer that is still owned.
#[expect(unsafe_code, reason = "an answer of librdkafka is pointers")]
unsafe fn read(groups: *mut *const native::rd_kafka_group_result_t, count: usize) -> Result<Vec<Committed>, KafkaError> {
    let mut all = Vec::new();
    if groups.is_null() {
        return Ok(all);
    }
    // SAFETY: as the caller promises; a list is null, or has as many elements as it says.
    unsafe {
        for at in 0..count {
            let group = *groups.add(at);
            let error = native::rd_kafka_group_result_error(group);
            if !error.is_null() {
                check(native::rd_kafka_error_code(error))?;
            }
            let list = native::rd_kafka_group_result_partitions(group);
            if list.is_null() {
                continue;
            }
            for at in 0..usize::try_from((*list).cnt).unwrap_or(0) {
                let element = &*(*list).elems.add(at);
                check(element.err)?;
                all.push(Committed {
                    topic: CStr::from_ptr(element.topic).to_string_lossy().into_owned(),
                    partition: element.partition,
                    offset: element.offset,
                    metadata: text(element.metadata, element.metadata_size),
                });
            }
        }
    }
    Ok(all)
}

/// A text that librdkafka owns.
///
/// # Safety
/// `from` is null or has so many bytes.
#[expect(unsafe_code, reason = "a text of librdkafka is a pointer and a length")]
unsafe fn text(from: *mut c_void, bytes: usize) -> String {
    if from.is_null() {
        return String::new();
    }
    // SAFETY: as the caller promises.
    let bytes = unsafe { std::slice::from_raw_parts(from.cast::<u8>(), bytes) };
    String::from_utf8_lossy(bytes).into_owned()
}

/// Keeps a topic's handle while it lives. `Client::fetch_metadata` of the crate (0.39) gives its own handle back before it makes the call, which
/// then reads what may be freed; with one more handle of the same topic it is not.
pub(super) struct Handle {
    _owned: Owned<RDKafkaTopic>,
}

impl Handle {
    /// Of a topic of this name, there or not. `client` outlives it.
    ///
    /// # Errors
    /// When librdkafka does not take the name.
    pub(super) fn new(client: *mut RDKafka, topic: &str) -> Result<Self, KafkaError> {
        let name = CString::new(topic).map_err(KafkaError::Nul)?;
        // SAFETY: `client` is live, the name is copied, without a configuration the default one is taken.
        #[expect(unsafe_code, reason = "the crate keeps this to itself")]
        let made = unsafe { native::rd_kafka_topic_new(client, name.as_ptr(), ptr::null_mut()) };
        Ok(Self { _owned: Owned::new(made, native::rd_kafka_topic_destroy)? })
    }
}

fn check(error: RDKafkaRespErr) -> Result<(), KafkaError> {
    match error {
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
        error => Err(KafkaError::OffsetFetch(error.into())),
    }
}

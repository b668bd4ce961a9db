//! InitProducerId.

use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

use crate::state::State;

pub(crate) fn init(state: &State, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let answer = InitProducerIdResponse::default().with_producer_id(ProducerId(-1)).with_producer_epoch(-1);
    if request.transactional_id.is_some() {
        let code = kafka_protocol::error::ResponseError::CoordinatorNotAvailable;
        return answer.with_error_code(code.code());
    }
    match state.transactions.new_producer_id() {
        Ok(id) => answer.with_producer_id(ProducerId(id)).with_producer_epoch(0),
        Err(code) => answer.with_error_code(code.code()),
    }
}

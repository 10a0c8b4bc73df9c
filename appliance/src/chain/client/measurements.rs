//! The functions of a measurement, typed.

use alloy::primitives::{Address, B256, U256};
use alloy::providers::Provider;
use alloy::rpc::types::Filter;
use alloy::sol_types::SolEvent;
use plumbline_contracts::abi::backhaul::IBackhaul::{DrawRecord, Request, Submission};
use plumbline_contracts::abi::backhaul::{Backhaul, Estimator};
use plumbline_contracts::{State, Verdict};
use plumbline_trust::selection::Look;

use super::types::{Drawn, Measurement, Outcome, Reported, Sent};
use super::{ChainClient, ClientError};

/// Measurements.
impl ChainClient {
    /// Asks for a measurement after `last`, this client's last request as it knows it ([`Self::last_request`]); its
    /// escrow must be allowed to the vault. Returns its id, as the contract gave it.
    ///
    /// However often it is sent, it is asked once: of all that name one last request the contract takes one.
    ///
    /// # Errors
    /// See [`ClientError`]; `AskedMeanwhile` if another request was made after `last`.
    pub async fn request_after(
        &self,
        request: &Request,
        last: B256,
    ) -> Result<(B256, Sent), ClientError> {
        let call = Backhaul::requestCall {
            asked: request.clone(),
            last,
        };
        let sent = self
            .send("request", self.deployment.backhaul, &call)
            .await?;
        let what = "Requested event";
        let receipt = async { self.provider.get_transaction_receipt(sent.hash).await };
        let receipt = self.ask(what, receipt).await?;
        let logs = receipt.iter().flat_map(|r| r.inner.logs());
        let ours = logs.filter(|l| l.address() == self.deployment.backhaul);
        let told = ours.filter_map(|l| Backhaul::Requested::decode_log_data(&l.inner.data).ok());
        let told = told.last();
        let told = told.ok_or_else(|| self.malformed(what, "it is not in the receipt".into()))?;
        Ok((told.id, sent))
    }

    /// The same, after whatever was asked before.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn request(&self, request: &Request) -> Result<(B256, Sent), ClientError> {
        let last = self.last_request(self.address()).await?;
        self.request_after(request, last).await
    }

    /// The last request of `payer`; zero if it made none.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn last_request(&self, payer: Address) -> Result<B256, ClientError> {
        let call = Backhaul::lastOfCall { payer };
        self.read("lastOf", self.deployment.backhaul, &call).await
    }

    /// What a request comes to: most packets paid of one challenger, most in all, and the escrow.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn quote(&self, request: &Request) -> Result<(U256, U256, U256), ClientError> {
        let call = Backhaul::quoteCall {
            asked: request.clone(),
        };
        let q = self.read("quote", self.deployment.backhaul, &call).await?;
        Ok((q.cap, q.target, q.escrow))
    }

    /// Draws the challengers, or ends the measurement if too few are live: see
    /// [`state_of`](Self::state_of) afterwards.
    ///
    /// # Errors
    /// See [`ClientError`]; `BeaconNotReady` until the round of the draw is closed.
    pub async fn select(&self, id: B256) -> Result<Sent, ClientError> {
        let call = Backhaul::selectCall { id };
        self.send_soon("select", self.deployment.backhaul, &call)
            .await
    }

    /// Begins, with the hash of the consent and the seed commitments (coordinator).
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn begin(&self, id: B256, setup_hash: B256) -> Result<Sent, ClientError> {
        let call = Backhaul::beginCall {
            id,
            setupHash: setup_hash,
        };
        self.send_soon("begin", self.deployment.backhaul, &call)
            .await
    }

    /// Posts what was signed (coordinator).
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn report(&self, id: B256, posted: &Submission) -> Result<Sent, ClientError> {
        let call = Backhaul::reportCall {
            id,
            posted: posted.clone(),
        };
        self.send("report", self.deployment.backhaul, &call).await
    }

    /// Pays out after the dispute window.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn finalize(&self, id: B256) -> Result<Sent, ClientError> {
        let call = Backhaul::finalizeCall { id };
        self.send("finalize", self.deployment.backhaul, &call).await
    }

    /// Ends a measurement without a result after its deadline.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn timeout(&self, id: B256) -> Result<Sent, ClientError> {
        let call = Backhaul::timeoutCall { id };
        self.send("timeout", self.deployment.backhaul, &call).await
    }

    /// Where the measurement `id` stands; [`State::None`] if there is none.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn state_of(&self, id: B256) -> Result<State, ClientError> {
        let call = Backhaul::stateOfCall { id };
        let state = self
            .read("stateOf", self.deployment.backhaul, &call)
            .await?;
        State::from_u8(state).ok_or_else(|| self.malformed("stateOf", format!("state {state}")))
    }

    /// What was asked.
    ///
    /// # Errors
    /// See [`ClientError`]; `UnknownRequest` if there is no such measurement.
    pub async fn request_of(&self, id: B256) -> Result<Measurement, ClientError> {
        let call = Backhaul::requestOfCall { id };
        let found = self
            .read("requestOf", self.deployment.backhaul, &call)
            .await?;
        Ok(Measurement {
            request: found.asked,
            request_block: found.requestBlock,
            setup_hash: found.setupHash,
        })
    }

    /// The challengers drawn, by index; empty before the draw.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn selected_of(&self, id: B256) -> Result<Vec<Address>, ClientError> {
        let call = Backhaul::selectedOfCall { id };
        self.read("selectedOf", self.deployment.backhaul, &call)
            .await
    }

    /// Which beacon and how large a pool the challengers were drawn with; all zero before the draw.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn draw_of(&self, id: B256) -> Result<DrawRecord, ClientError> {
        let call = Backhaul::drawOfCall { id };
        self.read("drawOf", self.deployment.backhaul, &call).await
    }

    /// How the challengers were drawn, for anyone to repeat; `None` before the draw.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn selected_event(&self, id: B256) -> Result<Option<Drawn>, ClientError> {
        let draw = self.draw_of(id).await?;
        if draw.round == 0 {
            return Ok(None);
        }
        let event: Backhaul::Selected = self
            .event(
                "Selected event",
                self.deployment.backhaul,
                id,
                draw.selectedBlock,
            )
            .await?;
        Ok(Some(Drawn {
            round: event.round,
            beacon: event.beacon,
            pool: event.pool,
            most: 1,
            looks: self.looks("Selected event", &event.looks)?,
        }))
    }

    pub(super) fn looks(
        &self,
        what: &'static str,
        words: &[U256],
    ) -> Result<Vec<Look>, ClientError> {
        let look = |word: &U256| {
            let look = Look::from_word(&word.to_be_bytes());
            look.ok_or_else(|| self.malformed(what, format!("{word:#x} is no look")))
        };
        words.iter().map(look).collect()
    }

    /// What came out; `None` before the result is posted.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn result_of(&self, id: B256) -> Result<Option<Outcome>, ClientError> {
        let call = Backhaul::resultOfCall { id };
        let found = self
            .read("resultOf", self.deployment.backhaul, &call)
            .await?;
        let result = found.result;
        let verdict = Verdict::from_u8(result.verdict)
            .ok_or_else(|| self.malformed("resultOf", format!("verdict {}", result.verdict)))?;
        if verdict == Verdict::None {
            return Ok(None);
        }
        let event: Backhaul::Reported = self
            .event(
                "Reported event",
                self.deployment.backhaul,
                id,
                result.reportedBlock,
            )
            .await?;
        let posted_verdict = Verdict::from_u8(event.verdict).ok_or_else(|| {
            self.malformed("Reported event", format!("verdict {}", event.verdict))
        })?;
        let curve = event.curve.iter().map(|rate| {
            u128::try_from(*rate).map_err(|e| self.malformed("Reported event", e.to_string()))
        });
        Ok(Some(Outcome {
            lower: result.lower,
            guaranteed: result.guaranteed,
            lower_span_us: result.lowerSpanUs,
            guaranteed_span_us: result.guaranteedSpanUs,
            curve: curve.collect::<Result<_, _>>()?,
            posted_verdict,
            packets: result.packets,
            reported_at: result.reportedAt,
            reporters: indices(result.reporters),
            paid: indices(result.paid),
            reports: found.reports.iter().copied().map(reported).collect(),
            verdict,
            bundle_hash: result.bundleHash,
            state: self.state_of(id).await?,
        }))
    }

    /// The contract's estimator, for comparing with one's own.
    ///
    /// # Errors
    /// See [`ClientError`]; `InputMalformed` if a span or length is zero or the lengths differ.
    pub async fn estimate(
        &self,
        input: &Estimator::Input,
    ) -> Result<Estimator::Output, ClientError> {
        let call = Backhaul::estimateCall {
            input: input.clone(),
        };
        self.read("estimate", self.deployment.backhaul, &call).await
    }

    /// The event `E` of `contract` about `id` in block `number`.
    pub(super) async fn event<E: SolEvent>(
        &self,
        what: &'static str,
        contract: Address,
        id: B256,
        number: u64,
    ) -> Result<E, ClientError> {
        let filter = Filter::new()
            .address(contract)
            .event_signature(E::SIGNATURE_HASH)
            .topic1(id)
            .select(number);
        let logs = async { self.provider.get_logs(&filter).await };
        let logs = self.ask(what, logs).await?;
        let log = logs
            .first()
            .ok_or_else(|| self.malformed(what, format!("it is not in block {number}")))?;
        E::decode_log_data(&log.inner.data).map_err(|e| self.malformed(what, e.to_string()))
    }
}

/// As the contract packs it.
fn reported(word: u64) -> Reported {
    let [a, b, c, d, e, f, g, h] = word.to_be_bytes();
    Reported {
        packets: u32::from_be_bytes([a, b, c, d]),
        window_us: u32::from_be_bytes([e, f, g, h]),
    }
}

/// Positions of the bits that are set.
fn indices(bits: u64) -> Vec<u16> {
    (0..64).filter(|i| bits >> i & 1 == 1).collect()
}

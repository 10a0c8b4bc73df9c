//! Every label value there is, but fates of packets and HTTP routes, which come from tables of their
//! owners. A closed set each: what peers send cannot make a new series.

/// Declares a closed set of label values.
macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }
        impl $name {
            /// Every value there is.
            pub const ALL: &[Self] = &[$(Self::$variant),+];
            /// The value as the label says it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }
    };
}

label! {
    /// Kind of claim.
    Proof {
        /// This link carries so many bits a second.
        Backhaul = "backhaul",
    }
}
label! {
    /// How a challenge ended.
    Outcome {
        /// Verdict: the claim holds.
        Pass = "pass",
        /// Verdict: it does not.
        Fail = "fail",
        /// Verdict: could not be measured.
        Inconclusive = "inconclusive",
        /// The deadline passed.
        TimedOut = "timed_out",
        /// Ended before it ran: withdrawn, or too few challengers.
        Cancelled = "cancelled",
        /// A party failed in a way that ended it for this process.
        Error = "error",
    }
}
label! {
    /// Which way packets went, seen from this process.
    Direction {
        /// Out of it.
        Sent = "sent",
        /// Into it.
        Received = "received",
    }
}
label! {
    /// Which way a capacity was measured, seen from the prover.
    Link {
        /// Towards the prover.
        Downlink = "downlink",
        /// Away from the prover.
        Uplink = "uplink",
    }
}
label! {
    /// Which estimate a capacity is.
    Estimate {
        /// Round trips credited; decides nothing.
        Measured = "measured",
        /// What was carried at least, if nobody lies.
        Lower = "lower",
        /// What was carried at least, though f lie.
        Guaranteed = "guaranteed",
    }
}
label! {
    /// When a round trip was probed.
    Probe {
        /// Before the flood.
        Before = "before",
        /// While it ran.
        During = "during",
    }
}
label! {
    /// Signature scheme.
    Algorithm {
        /// Network keys.
        Ed25519 = "ed25519",
        /// Settlement keys.
        Secp256k1 = "secp256k1",
    }
}
label! {
    /// Kind of transaction.
    Transaction {
        /// Lab token minted.
        Mint = "mint",
        /// Allowance given.
        Approve = "approve",
        /// Participant registered.
        Register = "register",
        /// Heartbeat.
        Heartbeat = "heartbeat",
        /// Challenge requested.
        Request = "request",
        /// Challengers drawn.
        Select = "select",
        /// Run anchored.
        Begin = "begin",
        /// Result posted.
        Report = "report",
        /// Settled.
        Finalize = "finalize",
        /// Ended by its deadline.
        Timeout = "timeout",
        /// A challenger asked for its seed.
        Name = "name",
        /// The bond taken of one that gave none.
        Forfeit = "forfeit",
        /// Withdrawn by its payer.
        Cancel = "cancel",
        /// Owed tokens taken out.
        Withdraw = "withdraw",
    }
}

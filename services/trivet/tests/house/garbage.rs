//! Bytes that nobody meant as a message, on every rpc of the contract: nothing breaks, and nothing is our fault.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use bytes::{Buf as _, BufMut as _, Bytes};
use futures_util::{StreamExt as _, stream};
use http::uri::PathAndQuery;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Channel,
};
use trivet::RoleName;
use trivet_proto::Method;

use crate::harness::{Databases, House, channel, config, reason};

/// Messages in all, over every rpc; and of those for each that streams, which answers little by little.
const MESSAGES: u64 = 100_000;
const STREAMED: u64 = 20;
/// How long an answer is listened to that does not end.
const LISTENED: Duration = Duration::from_millis(100);

/// Messages as the bytes that they are.
#[derive(Clone, Copy, Default)]
pub(crate) struct Plain;

impl Codec for Plain {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(message);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// Numbers that look random and are the same each time (splitmix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn bytes(&mut self, most: u64) -> Vec<u8> {
        (0..self.below(most)).map(|_| self.next().to_le_bytes()[0]).collect()
    }

    /// Bytes as they come, or fields that look like some that are meant.
    fn message(&mut self) -> Bytes {
        if self.below(4) == 0 {
            return self.bytes(200).into();
        }
        let mut message = Vec::new();
        for _ in 0..self.below(8) {
            self.field(&mut message, 2);
        }
        message.into()
    }

    fn field(&mut self, message: &mut Vec<u8>, depth: u32) {
        const TEXTS: [&str; 12] =
            ["ada", "", "1", "0.0000001", "-1", "USDC", "default", "a b", "\u{202e}", "2026-01-01", "%", "plan_1"];
        let number = 1 + self.below(16);
        let kind = [0, 1, 2, 2, 2, 5][usize::try_from(self.below(6)).unwrap()];
        prost::encoding::encode_varint(number << 3 | kind, message);
        match kind {
            0 => {
                let bits = self.below(65);
                let value = self.next().checked_shr(u32::try_from(bits).unwrap()).unwrap_or(0);
                prost::encoding::encode_varint(value, message);
            }
            1 => message.extend(self.next().to_le_bytes()),
            5 => message.extend(&self.next().to_le_bytes()[..4]),
            _ => {
                let inner = match self.below(4) {
                    0 if depth > 0 => {
                        let mut inner = Vec::new();
                        (0..self.below(4)).for_each(|_| self.field(&mut inner, depth - 1));
                        inner
                    }
                    1 => self.bytes(40),
                    _ => TEXTS[usize::try_from(self.below(12)).unwrap()].as_bytes().to_vec(),
                };
                prost::encoding::encode_varint(u64::try_from(inner.len()).unwrap(), message);
                message.extend(inner);
            }
        }
    }
}

/// Sends a message; how that ends.
async fn send(channel: Channel, method: &'static Method, message: Bytes) -> Result<(), Status> {
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = PathAndQuery::from_static(method.path);
    if method.unary {
        return grpc.unary(Request::new(message), path, Plain).await.map(drop);
    }
    let answers = async {
        let mut answers = grpc.streaming(Request::new(stream::iter([message])), path, Plain).await?.into_inner();
        while answers.message().await?.is_some() {}
        Ok(())
    };
    // Some go on until nobody listens any more.
    tokio::time::timeout(LISTENED, answers).await.unwrap_or(Ok(()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_messages_that_are_none_break_nothing_and_are_nobody_s_fault_but_the_caller_s() {
    let databases = Databases::sqlite();
    let house = House::start(config(&databases, &[]), &RoleName::ALL).await;
    let unary = u64::try_from(trivet_proto::METHODS.iter().filter(|method| method.unary).count()).unwrap();
    let each = MESSAGES.div_ceil(unary);
    let (sent, taken) = (AtomicU64::new(0), AtomicU64::new(0));
    let calls = trivet_proto::METHODS.iter().flat_map(|method| {
        let role = method.path.trim_start_matches("/trivet.").split('.').next().unwrap();
        // What every service has is asked of one of them.
        let address = house.running.addresses.get(role).unwrap_or(&house.running.addresses["product"]);
        let channel = channel(*address);
        let count = if method.unary { each } else { STREAMED };
        let seed = method.path.bytes().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
        let mut dice = Dice(seed);
        (0..count).map(move |_| (channel.clone(), method, dice.message()))
    });
    let (sent_now, taken_now) = (&sent, &taken);
    stream::iter(calls)
        .for_each_concurrent(32, async |(channel, method, message)| {
            sent_now.fetch_add(1, Ordering::Relaxed);
            match send(channel, method, message.clone()).await {
                Ok(()) => {
                    taken_now.fetch_add(1, Ordering::Relaxed);
                }
                Err(status) => {
                    let ours = [Code::Internal, Code::Unknown, Code::DataLoss, Code::Unavailable, Code::Cancelled];
                    assert!(!ours.contains(&status.code()), "{} {message:?}: {status:?}", method.path);
                    reason(&status);
                }
            }
        })
        .await;
    let (sent, taken) = (sent.into_inner(), taken.into_inner());
    assert!(sent >= MESSAGES && taken < sent / 2, "{taken} of {sent} were taken");
    house.end().await;
    databases.done().await;
}

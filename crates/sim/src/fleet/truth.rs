//! The ledger: every fault that was put in, every incident, and every situation that an ideal observer should alert on, one
//! JSON object a line.

use std::collections::BTreeMap;
use std::io::Write as _;

use crate::fleet::incidents::Incident;
use crate::isoformat::isoformat;

/// A vehicle this much above the limit, in km/h, is speeding: a tenth of the limit and three more.
pub fn speeding_above_kmh(limit_kmh: f32) -> f32 {
    limit_kmh * 1.1 + 3.0
}

/// Above this, in km/h, a vehicle that reports an active incident goes too fast past it.
pub const FAST_NEAR_INCIDENT_KMH: f32 = 30.0;

/// What an ideal observer alerts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Situation {
    /// Faster than [`speeding_above_kmh`]; ambulances may.
    Speeding,
    /// Faster than [`FAST_NEAR_INCIDENT_KMH`] while it reports an active incident.
    FastNearIncident,
}

impl Situation {
    pub(crate) const ALL: [Situation; 2] = [Situation::Speeding, Situation::FastNearIncident];

    fn as_str(self) -> &'static str {
        match self {
            Situation::Speeding => "speeding",
            Situation::FastNearIncident => "fast_near_incident",
        }
    }

    pub(crate) fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A situation under way.
#[derive(Debug)]
struct Open {
    key: String,
    from_us: i64,
    last_us: i64,
    fastest_kmh: f32,
    road: String,
    incident: Option<String>,
}

/// One report that a situation holds in.
pub(crate) struct Seen<'a> {
    pub(crate) vehicle: u32,
    pub(crate) key: &'a [u8],
    pub(crate) time_us: i64,
    pub(crate) speed_kmh: f32,
    pub(crate) road: &'a str,
    pub(crate) incident: Option<&'a str>,
}

/// The situations under way in a chunk.
#[derive(Debug, Default)]
pub(crate) struct Situations(BTreeMap<(u32, Situation), Open>);

impl Situations {
    /// A vehicle reports and the situation holds.
    pub(crate) fn holds(&mut self, situation: Situation, seen: &Seen<'_>, out: &mut Vec<u8>) {
        let place = (seen.vehicle, situation);
        // Another incident is another situation.
        if self
            .0
            .get(&place)
            .is_some_and(|open| open.incident.as_deref() != seen.incident)
        {
            self.ends(situation, seen.vehicle, out);
        }
        let open = self.0.entry(place).or_insert_with(|| Open {
            key: String::from_utf8_lossy(seen.key).into_owned(),
            from_us: seen.time_us,
            last_us: seen.time_us,
            fastest_kmh: 0.0,
            road: seen.road.to_owned(),
            incident: seen.incident.map(str::to_owned),
        });
        open.last_us = seen.time_us;
        open.fastest_kmh = open.fastest_kmh.max(seen.speed_kmh);
    }

    /// It holds no more.
    pub(crate) fn ends(&mut self, situation: Situation, vehicle: u32, out: &mut Vec<u8>) {
        if let Some(open) = self.0.remove(&(vehicle, situation)) {
            line(situation, &open, false, out);
        }
    }

    /// The run ends while these go on.
    pub(crate) fn drain(&mut self, out: &mut Vec<u8>) {
        for ((_, situation), open) in std::mem::take(&mut self.0) {
            line(situation, &open, true, out);
        }
    }
}

fn line(situation: Situation, open: &Open, goes_on: bool, out: &mut Vec<u8>) {
    let incident = open
        .incident
        .as_ref()
        .map_or("null".to_owned(), |id| format!(r#""{id}""#));
    // Writing to a vector does not fail.
    let _ = writeln!(
        out,
        r#"{{"kind":"{}","key":"{}","from":"{}Z","to":"{}Z","fastest_kmh":{:.1},"road":"{}","incident_id":{incident},"goes_on":{goes_on}}}"#,
        situation.as_str(),
        open.key,
        isoformat(open.from_us),
        isoformat(open.last_us),
        open.fastest_kmh,
        open.road,
    );
}

/// A fault of one record.
pub(crate) struct RecordFault<'a> {
    pub(crate) kind: &'a str,
    pub(crate) stream: &'a str,
    pub(crate) topic: &'a str,
    pub(crate) key: &'a [u8],
    pub(crate) id: &'a [u8],
    pub(crate) event_time_us: i64,
    /// The dead letters' class, for a record that is to become one.
    pub(crate) class: Option<&'a str>,
    /// How often the record is sent.
    pub(crate) copies: u8,
    pub(crate) delay_us: i64,
}

impl RecordFault<'_> {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let (outcome, class) = match self.class {
            Some(class) => ("dead_letter", format!(r#""{class}""#)),
            None => ("row", "null".to_owned()),
        };
        let _ = writeln!(
            out,
            r#"{{"kind":"{}","stream":"{}","topic":"{}","key":"{}","id":"{}","event_time":"{}Z","outcome":"{outcome}","error_class":{class},"copies":{},"delay_ms":{}}}"#,
            self.kind,
            self.stream,
            self.topic,
            String::from_utf8_lossy(self.key),
            String::from_utf8_lossy(self.id),
            isoformat(self.event_time_us),
            self.copies,
            self.delay_us / 1000,
        );
    }
}

/// A fault that lasts: of a device, or of a partition.
pub(crate) struct LastingFault<'a> {
    pub(crate) kind: &'a str,
    /// Stream, topic and partition, for a fault of a partition.
    pub(crate) partition: Option<(&'a str, &'a str, u32)>,
    /// `None` for a fault of a partition.
    pub(crate) key: Option<&'a [u8]>,
    /// `None` for as long as the run lasts.
    pub(crate) during_us: Option<(i64, i64)>,
    pub(crate) skew_us: i64,
}

impl LastingFault<'_> {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let key = self.key.map_or("null".to_owned(), |key| {
            format!(r#""{}""#, String::from_utf8_lossy(key))
        });
        let _ = write!(out, r#"{{"kind":"{}","key":{key}"#, self.kind);
        if let Some((stream, topic, partition)) = self.partition {
            let _ = write!(out, r#","stream":"{stream}","topic":"{topic}","partition":{partition}"#);
        }
        if let Some((from_us, to_us)) = self.during_us {
            let _ = write!(out, r#","from":"{}Z","to":"{}Z""#, isoformat(from_us), isoformat(to_us));
        }
        if self.skew_us != 0 {
            let _ = write!(out, r#","skew_ms":{}"#, self.skew_us / 1000);
        }
        let _ = writeln!(out, "}}");
    }
}

impl Incident {
    /// The incident as a line of `incidents.ndjson`.
    pub fn write_line(&self, out: &mut Vec<u8>) {
        let _ = writeln!(
            out,
            r#"{{"id":"{}","type":"{}","severity":{},"units":{},"location":[{:.6},{:.6}],"description":"{}","reported":"{}Z","dispatched":"{}Z","on_scene":"{}Z","resolved":"{}Z"}}"#,
            self.id,
            self.kind.as_str(),
            self.severity,
            self.units,
            self.point.latitude,
            self.point.longitude,
            self.description,
            isoformat(self.reported_us),
            isoformat(self.dispatched_us),
            isoformat(self.on_scene_us),
            isoformat(self.resolved_us),
        );
    }
}

//! Shortest routes by time, one storey at a time: for each destination a table of next steps, made when first asked for.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::OnceLock;

use super::{NO_CITY, NodeId, SegmentId, World};

/// The part of the network that routes are found in at a time: the trunk roads, or one town's streets.
#[derive(Debug, Default)]
pub(super) struct Storey {
    nodes: Vec<NodeId>,
    /// By destination, as a place in `nodes`.
    routes: Vec<OnceLock<Routes>>,
}

/// All routes of a storey to one destination.
#[derive(Debug)]
struct Routes {
    /// For each node which of its outgoing segments comes next; 255 at the destination and where there is no way.
    next: Box<[u8]>,
    /// Free-flow seconds; `u16::MAX` where there is no way.
    seconds: Box<[u16]>,
}

/// One storey's part of a trip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leg {
    storey: u16,
    pub(crate) to: NodeId,
}

/// A trip: out of the town, along trunk roads, into the other town; or within one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Legs {
    legs: [Leg; 3],
    /// Free-flow seconds of a car.
    pub(crate) seconds: f32,
}

impl Leg {
    const NONE: Leg = Leg {
        storey: 0,
        to: NodeId::MAX,
    };
}

impl Legs {
    /// Nowhere to go.
    pub(crate) const NONE: Legs = Legs {
        legs: [Leg::NONE; 3],
        seconds: 0.0,
    };

    pub(crate) fn get(&self, number: u8) -> Option<Leg> {
        let leg = self.legs.get(usize::from(number))?;
        (leg.to != NodeId::MAX).then_some(*leg)
    }
}

impl Storey {
    pub(super) fn new(nodes: Vec<NodeId>) -> Self {
        let routes = nodes.iter().map(|_| OnceLock::new()).collect();
        Self { nodes, routes }
    }

    pub(super) fn nodes(&self) -> &[NodeId] {
        &self.nodes
    }
}

impl World {
    const TRUNK: u16 = 0;

    /// A node's place in a storey.
    fn place(&self, node: NodeId, storey: u16) -> usize {
        let node = &self.nodes[node as usize];
        (if storey == Self::TRUNK {
            node.in_trunk
        } else {
            node.in_city
        }) as usize
    }

    fn routes_to(&self, leg: Leg) -> &Routes {
        let storey = &self.storeys[usize::from(leg.storey)];
        storey.routes[self.place(leg.to, leg.storey)].get_or_init(|| self.find_routes(leg))
    }

    /// The next segment from `node` on a leg; `None` when it is its end.
    pub(crate) fn next_segment(&self, node: NodeId, leg: Leg) -> Option<SegmentId> {
        let next = self.routes_to(leg).next[self.place(node, leg.storey)];
        (next != u8::MAX).then(|| self.nodes[node as usize].first_out + SegmentId::from(next))
    }

    fn seconds(&self, from: NodeId, leg: Leg) -> f32 {
        match self.routes_to(leg).seconds[self.place(from, leg.storey)] {
            u16::MAX => f32::INFINITY,
            seconds => f32::from(seconds),
        }
    }

    /// The quickest way between two nodes in towns. Times are those of an empty road.
    pub(crate) fn legs(&self, from: NodeId, to: NodeId) -> Legs {
        let (city_from, city_to) = (self.nodes[from as usize].city, self.nodes[to as usize].city);
        debug_assert!(city_from != NO_CITY && city_to != NO_CITY);
        let home = |to| Leg {
            storey: city_from + 1,
            to,
        };
        let last = Leg {
            storey: city_to + 1,
            to,
        };
        if city_from == city_to {
            return Legs {
                legs: [last, Leg::NONE, Leg::NONE],
                seconds: self.seconds(from, last),
            };
        }
        let mut best = Legs {
            legs: [Leg::NONE; 3],
            seconds: f32::INFINITY,
        };
        for &exit in &self.cities[usize::from(city_from)].gateways {
            let to_exit = self.seconds(from, home(exit));
            for &entry in &self.cities[usize::from(city_to)].gateways {
                let trunk = Leg {
                    storey: Self::TRUNK,
                    to: entry,
                };
                let seconds = to_exit + self.seconds(exit, trunk) + self.seconds(entry, last);
                if seconds < best.seconds {
                    best = Legs {
                        legs: [home(exit), trunk, last],
                        seconds,
                    };
                }
            }
        }
        best
    }

    /// Dijkstra against the direction of travel, from the destination. Ties go to the lower node, so that the result does
    /// not depend on the heap.
    fn find_routes(&self, leg: Leg) -> Routes {
        let storey = &self.storeys[usize::from(leg.storey)];
        let mut routes = Routes {
            next: vec![u8::MAX; storey.nodes.len()].into(),
            seconds: vec![u16::MAX; storey.nodes.len()].into(),
        };
        // Tenths of a second as integers: no rounding decides which way is quicker.
        let mut best = vec![u32::MAX; storey.nodes.len()];
        let mut heap = BinaryHeap::new();
        best[self.place(leg.to, leg.storey)] = 0;
        heap.push(Reverse((0_u32, leg.to)));
        while let Some(Reverse((cost, node))) = heap.pop() {
            if best[self.place(node, leg.storey)] < cost {
                continue;
            }
            for out in self.out(node) {
                let out = self.segment(out);
                if out.storey != leg.storey {
                    continue;
                }
                // Roads are two-way, so what goes out also comes in.
                let into = out.opposite;
                let segment = self.segment(into);
                let seconds = segment.length_m * 3.6 / segment.limit_kmh;
                let wait = if self.nodes[node as usize].signals { 8.0 } else { 0.0 };
                let cost = cost + ((seconds + wait) * 10.0) as u32 + 1;
                let place = self.place(out.to, leg.storey);
                if cost < best[place] {
                    best[place] = cost;
                    routes.next[place] = (into - self.nodes[out.to as usize].first_out) as u8;
                    heap.push(Reverse((cost, out.to)));
                }
            }
        }
        for (seconds, best) in routes.seconds.iter_mut().zip(best) {
            *seconds = u16::try_from(best / 10).unwrap_or(u16::MAX);
        }
        routes
    }
}

//! The road network: nodes and directed segments between them, short enough to count as straight.
//!
//! One network of two storeys. The trunk storey holds the motorways and A-roads of `data/roads.toml` and the link roads
//! into towns; each town's streets are a storey of their own (`streets`). They meet at gateways. Routes are found storey
//! by storey (`routes`), so a trip needs no more memory than the names of its gateways.

mod build;
mod data;
mod routes;
mod streets;

pub use data::RoadClass;
pub(crate) use routes::Legs;

use crate::fleet::geometry::Point;
use routes::Storey;

/// Index of a node.
pub(crate) type NodeId = u32;
/// Index of a directed segment.
pub(crate) type SegmentId = u32;
/// No city: between towns.
pub(crate) const NO_CITY: u16 = u16::MAX;

/// The whole road network; the same for every seed.
#[derive(Debug)]
pub struct World {
    pub(crate) nodes: Vec<Node>,
    /// The segments that leave a node stand together.
    pub(crate) segments: Vec<Segment>,
    pub(crate) road_names: Vec<String>,
    pub(crate) cities: Vec<City>,
    pub(crate) cameras: Vec<Camera>,
    /// The trunk storey, then one for each city.
    storeys: Vec<Storey>,
    cells: Cells,
}

#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) point: Point,
    first_out: SegmentId,
    out_count: u8,
    /// A crossing that may stop a vehicle.
    pub(crate) signals: bool,
    /// Its town, if it is in one.
    pub(crate) city: u16,
    /// Its place in the town's storey and in the trunk storey; `u32::MAX` where it is not in one.
    in_city: u32,
    in_trunk: u32,
}

/// One direction of a piece of road.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
    /// Index into `storeys`.
    storey: u16,
    pub(crate) length_m: f32,
    /// Degrees clockwise from north.
    pub(crate) heading_deg: f32,
    pub(crate) limit_kmh: f32,
    pub(crate) class: RoadClass,
    pub(crate) road: u16,
    pub(crate) city: u16,
    pub(crate) tunnel: bool,
    /// How built-up the surroundings are, 0 to 1: what a GPS receiver suffers from.
    pub(crate) built_up: f32,
    /// Vehicles an hour that it can take.
    pub(crate) capacity: f32,
    /// Vehicles on a working day, in this direction.
    pub(crate) daily: f32,
    /// 1 towards a town's centre, -1 away from it, 0 neither: the morning goes in, the evening out.
    pub(crate) tide: f32,
    /// The nearest traffic camera.
    pub(crate) camera: u16,
    /// The piece of ~5 km whose traffic varies together.
    pub(crate) stretch: u32,
    /// The other direction.
    opposite: SegmentId,
    /// Where driving begins, on the left side of the road, and degrees for each metre from there.
    pub(crate) start: Point,
    pub(crate) latitude_per_m: f32,
    pub(crate) longitude_per_m: f32,
}

#[derive(Debug)]
pub(crate) struct City {
    pub(crate) name: String,
    pub(crate) centre: Point,
    /// Thousands.
    pub(crate) population: f64,
    pub(crate) gateways: Vec<NodeId>,
    /// Other cities by the chance of a trip there, cumulative and ending at 1.
    pub(crate) destinations: Vec<(f64, u16)>,
}

#[derive(Debug)]
pub(crate) struct Camera {
    pub(crate) name: String,
    pub(crate) point: Point,
    /// The segment that it counts.
    pub(crate) segment: SegmentId,
}

impl World {
    /// Reads the data and builds the network; some tens of milliseconds.
    pub fn new() -> Self {
        build::build()
    }

    /// Segments that leave a node.
    pub(crate) fn out(&self, node: NodeId) -> std::ops::Range<SegmentId> {
        let node = &self.nodes[node as usize];
        node.first_out..node.first_out + SegmentId::from(node.out_count)
    }

    #[inline]
    pub(crate) fn segment(&self, id: SegmentId) -> &Segment {
        &self.segments[id as usize]
    }

    pub(crate) fn point(&self, node: NodeId) -> Point {
        self.nodes[node as usize].point
    }

    /// The middle of a segment.
    pub(crate) fn middle(&self, id: SegmentId) -> Point {
        let segment = self.segment(id);
        let (from, to) = (self.point(segment.from), self.point(segment.to));
        Point::new(
            f64::midpoint(from.latitude, to.latitude),
            f64::midpoint(from.longitude, to.longitude),
        )
    }

    /// The same piece of road in the other direction.
    #[inline]
    pub(crate) fn opposite(&self, id: SegmentId) -> SegmentId {
        self.segment(id).opposite
    }

    /// The segment that leads into this one on the same road.
    pub(crate) fn upstream(&self, id: SegmentId) -> Option<SegmentId> {
        let segment = self.segment(id);
        self.out(segment.from)
            .filter(|out| {
                let out = self.segment(*out);
                out.to != segment.to && out.road == segment.road
            })
            .map(|out| self.opposite(out))
            .next()
    }

    /// Nodes of a city's streets.
    pub(crate) fn city_nodes(&self, city: u16) -> &[NodeId] {
        self.storeys[usize::from(city) + 1].nodes()
    }

    /// Segments whose middle lies within `radius_m` of a point, nearest first.
    pub(crate) fn segments_near(&self, point: Point, radius_m: f64) -> Vec<(f64, SegmentId)> {
        let mut found: Vec<_> = self
            .cells
            .around(point, radius_m)
            .map(|id| (self.middle(id).distance_m(point), id))
            .filter(|(distance, _)| *distance <= radius_m)
            .collect();
        found.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        found
    }

    /// How much road of a class there is, in kilometres, both directions counted.
    pub fn kilometres(&self, class: RoadClass) -> f64 {
        let lengths = self.segments.iter().filter(|segment| segment.class == class);
        lengths.map(|segment| f64::from(segment.length_m)).sum::<f64>() / 1000.0
    }

    /// Both ends of every piece of road, each piece once, with its class: for drawing.
    pub fn lines(&self) -> impl Iterator<Item = (RoadClass, Point, Point)> {
        let once = self.segments.iter().filter(|segment| segment.from < segment.to);
        once.map(|segment| (segment.class, self.point(segment.from), self.point(segment.to)))
    }

    /// Names and centres of the towns, with thousands of people.
    pub fn towns(&self) -> impl Iterator<Item = (&str, Point, f64)> {
        self.cities
            .iter()
            .map(|city| (city.name.as_str(), city.centre, city.population))
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

/// Segments by the square that holds their middle.
#[derive(Debug, Default)]
struct Cells {
    /// Segment ids, cell by cell.
    ids: Vec<SegmentId>,
    /// Where each cell begins in `ids`, and one more.
    starts: Vec<u32>,
}

/// What the map covers, in degrees.
pub(crate) const SOUTH: f64 = 50.4;
pub(crate) const NORTH: f64 = 53.2;
pub(crate) const WEST: f64 = -3.9;
pub(crate) const EAST: f64 = 1.6;
const CELL_DEG: f64 = 0.02;

impl Cells {
    const ROWS: usize = ((NORTH - SOUTH) / CELL_DEG) as usize + 1;
    const COLUMNS: usize = ((EAST - WEST) / CELL_DEG) as usize + 1;

    fn new(middles: &[Point]) -> Self {
        let mut starts = vec![0_u32; Self::ROWS * Self::COLUMNS + 1];
        let cells: Vec<usize> = middles
            .iter()
            .map(|point| {
                let (row, column) = Self::cell(*point);
                row * Self::COLUMNS + column
            })
            .collect();
        for cell in &cells {
            starts[cell + 1] += 1;
        }
        for cell in 1..starts.len() {
            starts[cell] += starts[cell - 1];
        }
        let mut next = starts.clone();
        let mut ids = vec![0; middles.len()];
        for (id, cell) in cells.iter().enumerate() {
            ids[next[*cell] as usize] = id as SegmentId;
            next[*cell] += 1;
        }
        Self { ids, starts }
    }

    fn cell(point: Point) -> (usize, usize) {
        let row = ((point.latitude - SOUTH) / CELL_DEG).max(0.0) as usize;
        let column = ((point.longitude - WEST) / CELL_DEG).max(0.0) as usize;
        (row.min(Self::ROWS - 1), column.min(Self::COLUMNS - 1))
    }

    fn around(&self, point: Point, radius_m: f64) -> impl Iterator<Item = SegmentId> {
        let (latitude, longitude) = (radius_m / 111_320.0, radius_m / 65_000.0);
        let low = Self::cell(Point::new(point.latitude - latitude, point.longitude - longitude));
        let high = Self::cell(Point::new(point.latitude + latitude, point.longitude + longitude));
        (low.0..=high.0).flat_map(move |row| {
            let from = self.starts[row * Self::COLUMNS + low.1] as usize;
            let to = self.starts[row * Self::COLUMNS + high.1 + 1] as usize;
            self.ids[from..to].iter().copied()
        })
    }
}

#[cfg(test)]
mod tests;

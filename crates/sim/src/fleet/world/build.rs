//! From the data files to the network.

use super::data::{Data, RoadClass};
use super::routes::Storey;
use super::streets::streets;
use super::{Camera, Cells, City, NO_CITY, Node, NodeId, Segment, SegmentId, World};
use crate::fleet::geometry::Point;

const KMH_PER_MPH: f64 = 1.609_344;
/// Longest piece of a road between towns; a curve is made of them.
const PIECE_M: f64 = 650.0;
/// Link roads from a junction into a town.
const LINK: Kind = Kind {
    class: RoadClass::Primary,
    limit_mph: 50.0,
    lanes: 2,
    traffic: 28.0,
};

/// Names for streets; the grid has more lines than names, as towns do.
const STREET_NAMES: [&str; 48] = [
    "High Street",
    "Station Road",
    "Church Street",
    "Victoria Road",
    "Park Road",
    "Mill Lane",
    "Queen Street",
    "King Street",
    "New Road",
    "Bridge Street",
    "The Avenue",
    "Albert Road",
    "Manor Road",
    "School Lane",
    "Green Lane",
    "Castle Street",
    "Market Place",
    "North Street",
    "South Street",
    "West Street",
    "East Street",
    "Abbey Road",
    "Grove Road",
    "Hill Road",
    "Orchard Way",
    "Priory Road",
    "Richmond Road",
    "Windsor Road",
    "York Road",
    "Kingsway",
    "Broad Street",
    "Chapel Street",
    "Cross Street",
    "Elm Grove",
    "Garden Street",
    "Grange Road",
    "Hawthorn Road",
    "Highfield Road",
    "Lime Avenue",
    "Meadow Lane",
    "Nelson Street",
    "Oak Road",
    "Princes Street",
    "River Road",
    "Springfield Road",
    "Union Street",
    "Waterloo Road",
    "Woodland Drive",
];

#[derive(Clone, Copy)]
struct Kind {
    class: RoadClass,
    limit_mph: f64,
    lanes: u8,
    /// Thousand vehicles a day, both directions.
    traffic: f64,
}

struct Edge {
    a: NodeId,
    b: NodeId,
    kind: Kind,
    road: u16,
    storey: u16,
    city: u16,
    tunnel: bool,
    stretch: u32,
}

#[derive(Default)]
struct Builder {
    points: Vec<Point>,
    /// Of each node.
    city: Vec<u16>,
    on_trunk: Vec<bool>,
    edges: Vec<Edge>,
    road_names: Vec<String>,
}

pub(super) fn build() -> World {
    let data = Data::read();
    let junctions = data.index();
    let mut builder = Builder::default();
    for (_, point) in &data.junctions {
        builder.node(*point, NO_CITY, true);
    }
    let mut stretches = 0;
    for road in &data.roads {
        // A number can have several chains, distinguished by a word behind it.
        let name = builder.road_name(road.name.split(' ').next().unwrap_or_default());
        let kind = Kind {
            class: road.class,
            limit_mph: road.limit_mph,
            lanes: road.lanes,
            traffic: road.traffic,
        };
        let path: Vec<NodeId> = road
            .path
            .iter()
            .map(|junction| {
                let index = junctions.get(junction.as_str());
                *index.unwrap_or_else(|| panic!("{}: no junction {junction}", road.name)) as NodeId
            })
            .collect();
        let in_tunnel = |at: usize| {
            let (a, b) = (&road.path[at], &road.path[at + 1]);
            road.tunnels
                .iter()
                .any(|(from, to)| (from == a && to == b) || (from == b && to == a))
        };
        builder.curve(&path, name, kind, NO_CITY, in_tunnel, &mut stretches);
    }

    let mut gateways = Vec::new();
    for (number, city) in data.cities.iter().enumerate() {
        let number = number as u16;
        let plan = streets(city, u64::from(number));
        let first = builder.points.len() as NodeId;
        for point in &plan.points {
            builder.node(*point, number, false);
        }
        let names: Vec<u16> = STREET_NAMES.iter().map(|name| builder.road_name(name)).collect();
        for piece in &plan.pieces {
            let kind = street_kind(piece.main, city.population);
            let salt = usize::from(number) * 31 + piece.line as usize * 7;
            builder.edges.push(Edge {
                a: first + piece.a as NodeId,
                b: first + piece.b as NodeId,
                kind,
                road: names[salt % names.len()],
                storey: number + 1,
                city: number,
                tunnel: false,
                stretch: stretches + piece.line as u32,
            });
        }
        stretches += 4096;
        let name = builder.road_name(&format!("{} Road", city.name));
        let mut entries = Vec::new();
        for gateway in &city.gateways {
            let junction = *junctions
                .get(gateway.as_str())
                .unwrap_or_else(|| panic!("{}: no junction {gateway}", city.name));
            let entry = nearest(&plan.points, data.junctions[junction].1) as NodeId + first;
            builder.on_trunk[entry as usize] = true;
            let path = [junction as NodeId, entry];
            builder.curve(&path, name, LINK, number, |_| false, &mut stretches);
            if !entries.contains(&entry) {
                entries.push(entry);
            }
        }
        gateways.push(entries);
    }
    builder.finish(&data, gateways)
}

fn street_kind(main: bool, population: f64) -> Kind {
    // The larger the town, the fuller its main streets: the eighth root of its size, by square roots, which every machine
    // rounds alike.
    let fullness = (population / 200.0).sqrt().sqrt().sqrt();
    match main {
        true => Kind {
            class: RoadClass::Arterial,
            limit_mph: 30.0,
            lanes: 1,
            traffic: 13.0 * fullness,
        },
        false => Kind {
            class: RoadClass::Street,
            limit_mph: 20.0,
            lanes: 1,
            traffic: 3.0 * fullness,
        },
    }
}

fn nearest(points: &[Point], to: Point) -> usize {
    let distance = |at: &usize| points[*at].distance_m(to);
    (0..points.len())
        .min_by(|a, b| distance(a).total_cmp(&distance(b)))
        .expect("a town has streets")
}

impl Builder {
    fn node(&mut self, point: Point, city: u16, on_trunk: bool) -> NodeId {
        self.points.push(point);
        self.city.push(city);
        self.on_trunk.push(on_trunk);
        (self.points.len() - 1) as NodeId
    }

    fn road_name(&mut self, name: &str) -> u16 {
        if let Some(known) = self.road_names.iter().position(|known| known == name) {
            return known as u16;
        }
        self.road_names.push(name.to_owned());
        (self.road_names.len() - 1) as u16
    }

    /// Lays a road through nodes as a Catmull-Rom curve, cut into pieces.
    fn curve(
        &mut self,
        path: &[NodeId],
        road: u16,
        kind: Kind,
        city: u16,
        in_tunnel: impl Fn(usize) -> bool,
        stretches: &mut u32,
    ) {
        for at in 0..path.len() - 1 {
            let [p1, p2] = [path[at], path[at + 1]].map(|node| self.points[node as usize]);
            let before = at.checked_sub(1).map_or(p1, |at| self.points[path[at] as usize]);
            let after = path.get(at + 2).map_or(p2, |node| self.points[*node as usize]);
            let length = p1.distance_m(p2);
            let pieces = (length / PIECE_M).ceil().max(1.0) as u32;
            let mut last = path[at];
            for piece in 1..=pieces {
                *stretches += u32::from(piece % 8 == 1);
                let next = if piece == pieces {
                    path[at + 1]
                } else {
                    let point = curve_point([before, p1, p2, after], f64::from(piece) / f64::from(pieces));
                    self.node(point, NO_CITY, true)
                };
                self.edges.push(Edge {
                    a: last,
                    b: next,
                    kind,
                    road,
                    storey: 0,
                    city,
                    tunnel: in_tunnel(at),
                    stretch: *stretches,
                });
                last = next;
            }
        }
    }

    fn finish(self, data: &Data, gateways: Vec<Vec<NodeId>>) -> World {
        let mut nodes: Vec<Node> = self
            .points
            .iter()
            .zip(&self.city)
            .map(|(point, city)| Node {
                point: *point,
                first_out: 0,
                out_count: 0,
                signals: false,
                city: *city,
                in_city: u32::MAX,
                in_trunk: u32::MAX,
            })
            .collect();
        let mut storeys: Vec<Vec<NodeId>> = vec![Vec::new(); data.cities.len() + 1];
        for (id, node) in (0..).zip(&mut nodes) {
            if self.on_trunk[id as usize] {
                node.in_trunk = storeys[0].len() as u32;
                storeys[0].push(id);
            }
            if node.city != NO_CITY {
                let storey = &mut storeys[usize::from(node.city) + 1];
                node.in_city = storey.len() as u32;
                storey.push(id);
            }
        }
        let segments = self.segments(data);
        for (id, segment) in (0..).zip(&segments) {
            let node = &mut nodes[segment.from as usize];
            if node.out_count == 0 {
                node.first_out = id;
            }
            node.out_count += 1;
        }
        for node in &mut nodes {
            node.signals = node.city != NO_CITY && node.out_count > 2;
        }

        let mut world = World {
            cells: Cells::default(),
            storeys: storeys.into_iter().map(Storey::new).collect(),
            cities: cities(data, gateways),
            nodes,
            segments,
            road_names: self.road_names,
            cameras: Vec::new(),
        };
        let middles: Vec<Point> = (0..world.segments.len() as SegmentId)
            .map(|id| world.middle(id))
            .collect();
        world.cells = Cells::new(&middles);
        world.cameras = place_cameras(&world, data);
        assign_cameras(&mut world, &middles);
        world
    }

    fn segments(&self, data: &Data) -> Vec<Segment> {
        let mut segments = Vec::with_capacity(self.edges.len() * 2);
        for edge in &self.edges {
            for (from, to) in [(edge.a, edge.b), (edge.b, edge.a)] {
                let [from_point, to_point] = [from, to].map(|node| self.points[node as usize]);
                let way = from_point.to(to_point);
                let length = way.length();
                // Traffic keeps left.
                let start = from_point.plus(way.turned_deg(-90.0).scaled(side_m(edge.kind.class) / length));
                let city = data.cities.get(usize::from(edge.city));
                let depth = city.map_or((0.0, 0.0), |city| {
                    let centre = Point::new(city.latitude, city.longitude);
                    let part = |node: NodeId| self.points[node as usize].distance_m(centre) / (city.radius_km * 1000.0);
                    (part(from), part(to))
                });
                // 1 in the centre, 0 at the edge of the town.
                let centrality = city.map_or(0.0, |_| (1.0 - f64::midpoint(depth.0, depth.1)).clamp(0.0, 1.0));
                let in_streets = edge.storey != 0;
                let built_up = if in_streets { 0.3 + 0.7 * centrality } else { 0.1 };
                let fuller = if in_streets { 0.7 + 0.6 * centrality } else { 1.0 };
                let capacity_per_lane = match edge.kind.class {
                    RoadClass::Motorway => 2000.0,
                    RoadClass::Trunk => 1850.0,
                    RoadClass::Primary => 1500.0,
                    RoadClass::Arterial => 850.0,
                    RoadClass::Street => 500.0,
                };
                segments.push(Segment {
                    from,
                    to,
                    storey: edge.storey,
                    length_m: length as f32,
                    heading_deg: way.heading_deg() as f32,
                    limit_kmh: (edge.kind.limit_mph * KMH_PER_MPH) as f32,
                    class: edge.kind.class,
                    road: edge.road,
                    city: edge.city,
                    tunnel: edge.tunnel,
                    built_up: built_up as f32,
                    capacity: (capacity_per_lane * f64::from(edge.kind.lanes)) as f32,
                    daily: (edge.kind.traffic * 500.0 * fuller) as f32,
                    tide: match depth.0 - depth.1 {
                        inward if inward > 0.01 => 1.0,
                        outward if outward < -0.01 => -1.0,
                        _ => 0.0,
                    },
                    camera: 0,
                    stretch: edge.stretch,
                    opposite: 0,
                    start,
                    latitude_per_m: ((to_point.latitude - from_point.latitude) / length) as f32,
                    longitude_per_m: ((to_point.longitude - from_point.longitude) / length) as f32,
                });
            }
        }
        in_order(segments)
    }
}

/// Puts segments in the order of the node they leave, and tells each pair of directions of each other.
fn in_order(segments: Vec<Segment>) -> Vec<Segment> {
    // Directions of one piece come in pairs.
    let mut order: Vec<usize> = (0..segments.len()).collect();
    order.sort_by_key(|at| segments[*at].from);
    let mut place = vec![0; segments.len()];
    for (new, old) in (0..).zip(&order) {
        place[*old] = new;
    }
    let moved = order.iter().map(|old| Segment {
        opposite: place[*old ^ 1],
        ..segments[*old].clone()
    });
    moved.collect()
}

/// From the middle of the road to the lane, metres.
fn side_m(class: RoadClass) -> f64 {
    match class {
        RoadClass::Motorway => 11.0,
        RoadClass::Trunk => 8.0,
        RoadClass::Primary => 3.0,
        RoadClass::Arterial | RoadClass::Street => 2.5,
    }
}

/// The point at `t` between the two in the middle: a uniform Catmull-Rom curve with half the usual tension, so that it
/// stays near the chord where junctions are far apart.
fn curve_point([before, p1, p2, after]: [Point; 4], t: f64) -> Point {
    let (t2, t3) = (t * t, t * t * t);
    let blend = |get: fn(Point) -> f64| {
        let (m1, m2) = ((get(p2) - get(before)) * 0.5, (get(after) - get(p1)) * 0.5);
        // Tangents no longer than the chord's, or a far neighbour would throw the curve about.
        let chord = get(p2) - get(p1);
        let (m1, m2) = (limit(m1, chord), limit(m2, chord));
        (2.0 * t3 - 3.0 * t2 + 1.0) * get(p1)
            + (t3 - 2.0 * t2 + t) * m1
            + (3.0 * t2 - 2.0 * t3) * get(p2)
            + (t3 - t2) * m2
    };
    Point::new(blend(|point| point.latitude), blend(|point| point.longitude))
}

fn limit(tangent: f64, chord: f64) -> f64 {
    let most = chord.abs() * 1.2 + 0.004;
    tangent.clamp(-most, most)
}

fn cities(data: &Data, gateways: Vec<Vec<NodeId>>) -> Vec<City> {
    let centre = |at: usize| Point::new(data.cities[at].latitude, data.cities[at].longitude);
    let mut cities = Vec::new();
    for (number, (city, gateways)) in data.cities.iter().zip(gateways).enumerate() {
        // A gravity model: towns draw trips by their size and the less the farther they are.
        let mut weights = Vec::new();
        let mut sum = 0.0;
        for (other, there) in data.cities.iter().enumerate() {
            let distance_km = centre(number).distance_m(centre(other)) / 1000.0;
            if other == number || distance_km > 230.0 {
                continue;
            }
            let decay = 1.0 + distance_km / 35.0;
            sum += there.population.sqrt() / (decay * decay);
            weights.push((sum, other as u16));
        }
        weights.iter_mut().for_each(|(weight, _)| *weight /= sum);
        cities.push(City {
            name: city.name.clone(),
            centre: centre(number),
            population: city.population,
            gateways,
            destinations: weights,
        });
    }
    cities
}

/// One at each junction of a main road, and some in towns.
fn place_cameras(world: &World, data: &Data) -> Vec<Camera> {
    let mut cameras = Vec::new();
    for (id, (name, point)) in (0..).zip(&data.junctions) {
        // The busiest road that leaves the junction.
        let busiest = world.out(id).max_by(|a, b| {
            world
                .segment(*a)
                .daily
                .total_cmp(&world.segment(*b).daily)
                .then(b.cmp(a))
        });
        if let Some(segment) = busiest {
            let word: String = name.split_whitespace().collect::<Vec<_>>().join("-");
            cameras.push(Camera {
                name: format!("CAM-{word}"),
                point: *point,
                segment,
            });
        }
    }
    for (number, city) in (0..).zip(&world.cities) {
        let crossings = world.city_nodes(number).iter().filter(|node| {
            let main = |id: &SegmentId| world.segment(*id).class == RoadClass::Arterial;
            world.out(**node).filter(main).count() >= 4
        });
        let name: String = city.name.split_whitespace().collect::<Vec<_>>().join("-");
        for (count, node) in (1..).zip(crossings) {
            let busiest = world.out(*node).max_by(|a, b| {
                let daily = |id: SegmentId| world.segment(id).daily;
                daily(*a).total_cmp(&daily(*b)).then(b.cmp(a))
            });
            cameras.extend(busiest.map(|segment| Camera {
                name: format!("CAM-{name}-{count:02}"),
                point: world.point(*node),
                segment,
            }));
        }
    }
    cameras
}

fn assign_cameras(world: &mut World, middles: &[Point]) {
    // In order of latitude, so that only near ones are looked at.
    let mut order: Vec<u16> = (0..world.cameras.len() as u16).collect();
    let cameras = &world.cameras;
    let latitude = |camera: u16| cameras[usize::from(camera)].point.latitude;
    order.sort_by(|a, b| latitude(*a).total_cmp(&latitude(*b)).then(a.cmp(b)));
    let nearest = |point: Point| {
        let start = order.partition_point(|camera| latitude(*camera) < point.latitude);
        let mut best = (f64::INFINITY, 0);
        let mut look = |camera: u16| {
            let there = cameras[usize::from(camera)].point;
            let distance = point.rough_distance_m(there);
            if distance < best.0 {
                best = (distance, camera);
            }
            (there.latitude - point.latitude).abs() * 111_320.0 < best.0
        };
        let _ = order[start..].iter().all(|camera| look(*camera));
        let _ = order[..start].iter().rev().all(|camera| look(*camera));
        best.1
    };
    let found: Vec<u16> = middles.iter().map(|middle| nearest(*middle)).collect();
    for (segment, camera) in world.segments.iter_mut().zip(found) {
        segment.camera = camera;
    }
}

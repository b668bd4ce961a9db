use super::*;

#[test]
fn the_network_has_the_size_of_the_country() {
    let world = World::new();
    eprintln!(
        "{} nodes, {} segments, {} cameras",
        world.nodes.len(),
        world.segments.len(),
        world.cameras.len()
    );
    for class in RoadClass::ALL {
        eprintln!("{} {:.0} km", class.as_str(), world.kilometres(class));
    }
    // Carriageway kilometres, two for each kilometre of road: the M25 has 188, the M1 to Nottingham 200, the M4 to Cardiff
    // 250, the M5 to Exeter 260, and so on: about 1,550 of motorway in all.
    let motorway = world.kilometres(RoadClass::Motorway) / 2.0;
    assert!((1300.0..1800.0).contains(&motorway), "{motorway} km");
    assert!(world.nodes.len() < 1 << 16 && world.cameras.len() > 400);
}

#[test]
fn every_segment_has_an_opposite_and_a_sane_shape() {
    let world = World::new();
    for id in 0..world.segments.len() as SegmentId {
        let segment = world.segment(id);
        let opposite = world.segment(world.opposite(id));
        assert_eq!(
            (opposite.from, opposite.to, opposite.road),
            (segment.to, segment.from, segment.road)
        );
        assert_eq!(world.opposite(world.opposite(id)), id);
        assert!(
            (8.0..2500.0).contains(&segment.length_m),
            "{} m on {}",
            segment.length_m,
            world.road_names[usize::from(segment.road)]
        );
        let middle = world.middle(id);
        assert!((SOUTH..NORTH).contains(&middle.latitude) && (WEST..EAST).contains(&middle.longitude));
    }
}

#[test]
fn all_towns_reach_each_other_by_the_real_roads() {
    let world = World::new();
    let centre = |name: &str| {
        let number = world.cities.iter().position(|city| city.name == name).unwrap() as u16;
        let centre = world.cities[usize::from(number)].centre;
        let nodes = world.city_nodes(number).iter().copied();
        nodes
            .min_by(|a, b| {
                world
                    .point(*a)
                    .distance_m(centre)
                    .total_cmp(&world.point(*b).distance_m(centre))
            })
            .unwrap()
    };
    let names: Vec<&str> = world.towns().map(|(name, ..)| name).collect();
    for from in &names {
        for to in &names {
            let legs = world.legs(centre(from), centre(to));
            assert!(
                legs.seconds.is_finite() && legs.seconds < 5.5 * 3600.0,
                "{from} to {to}: {} s",
                legs.seconds
            );
        }
    }
    let roads = |from: &str, to: &str| {
        let (mut node, legs) = (centre(from), world.legs(centre(from), centre(to)));
        let (mut roads, mut metres): (Vec<&str>, f32) = (Vec::new(), 0.0);
        let mut number = 0;
        while let Some(leg) = legs.get(number) {
            while let Some(id) = world.next_segment(node, leg) {
                let segment = world.segment(id);
                (node, metres) = (segment.to, metres + segment.length_m);
                let name = world.road_names[usize::from(segment.road)].as_str();
                if segment.storey == 0 && roads.last() != Some(&name) {
                    roads.push(name);
                }
            }
            number += 1;
        }
        assert_eq!(node, centre(to));
        (roads, metres / 1000.0, legs.seconds / 60.0)
    };
    // 190 km and about two and a half hours with traffic.
    let (way, km, minutes) = roads("London", "Birmingham");
    assert!(way.contains(&"M40") || way.contains(&"M1"), "{way:?}");
    assert!(
        (170.0..215.0).contains(&km) && (110.0..170.0).contains(&minutes),
        "{way:?} {km} km {minutes} min"
    );
    let (way, km, _) = roads("Oxford", "Reading");
    assert!(way.contains(&"A34") && way.contains(&"M4"), "{way:?} {km} km");
    let (way, _, _) = roads("Cambridge", "Coventry");
    assert!(way.contains(&"A14"), "{way:?}");
    let (way, _, _) = roads("Bristol", "London");
    assert!(way.contains(&"M4"), "{way:?}");
}

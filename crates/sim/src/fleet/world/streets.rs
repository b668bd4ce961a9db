//! A town's streets: a grid, turned, bent and thinned, with a main street every fourth line.

use super::data::City;
use crate::fleet::draw::{For, Key};
use crate::fleet::geometry::{Offset, Point};

/// The street plan of one town.
pub(super) struct Streets {
    pub(super) points: Vec<Point>,
    /// Pairs of indices into `points`, each piece of street once.
    pub(super) pieces: Vec<Piece>,
}

pub(super) struct Piece {
    pub(super) a: usize,
    pub(super) b: usize,
    pub(super) main: bool,
    /// The line of the grid that it lies on, as a number; a street's name follows from it.
    pub(super) line: u64,
}

/// Lines from one main street to the next.
const MAIN_EVERY: i64 = 4;

pub(super) fn streets(city: &City, number: u64) -> Streets {
    // The plan belongs to the map, not to a run: its seed never changes.
    let key = Key::new(0).of(For::Streets).with(number);
    let centre = Point::new(city.latitude, city.longitude);
    let radius = city.radius_km * 1000.0;
    let reach = (radius / city.spacing_m) as i64 + 1;
    let width = 2 * reach + 1;
    let index = |i: i64, j: i64| ((i + reach) * width + j + reach) as u64;
    let is_main = |line: i64| line.rem_euclid(MAIN_EVERY) == 0;

    let mut places = vec![None; (width * width) as usize];
    let mut points = Vec::new();
    for i in -reach..=reach {
        for j in -reach..=reach {
            let flat = Offset {
                east: i as f64 * city.spacing_m,
                north: j as f64 * city.spacing_m,
            };
            let edge = 0.86 + 0.14 * libm::sin(2.0 * flat.heading_deg().to_radians() + number as f64);
            if flat.length() > radius * edge {
                continue;
            }
            let jitter = |salt| key.with(index(i, j)).with(salt).between(-0.14, 0.14) * city.spacing_m;
            let bent = bend(flat, radius, number);
            let moved = Offset {
                east: bent.east + jitter(1),
                north: bent.north + jitter(2),
            };
            places[index(i, j) as usize] = Some(points.len());
            points.push(centre.plus(moved.turned_deg(city.angle_deg)));
        }
    }

    let mut pieces = Vec::new();
    let at = |i: i64, j: i64| (i.abs() <= reach && j.abs() <= reach).then(|| places[index(i, j) as usize])?;
    for i in -reach..=reach {
        for j in -reach..=reach {
            let Some(a) = at(i, j) else { continue };
            for (b, line, axis) in [(at(i + 1, j), j, 0), (at(i, j + 1), i, 1)] {
                let Some(b) = b else { continue };
                let main = is_main(line);
                if main || !key.with(index(i, j)).with(10 + axis).happens(0.2) {
                    let line = (line + reach) as u64 * 2 + axis;
                    pieces.push(Piece { a, b, main, line });
                }
            }
        }
    }
    largest_part(points, pieces)
}

/// Long waves across the grid, so that streets curve.
fn bend(flat: Offset, radius: f64, number: u64) -> Offset {
    let phase = number as f64;
    let wave = |along: f64, shift: f64| libm::sin(along / radius * 3.1 + phase + shift) * radius * 0.07;
    Offset {
        east: flat.east + wave(flat.north, 0.0),
        north: flat.north + wave(flat.east, 1.7),
    }
}

/// Thinning can cut off a corner; what cannot be reached is left out.
fn largest_part(points: Vec<Point>, pieces: Vec<Piece>) -> Streets {
    let mut part: Vec<usize> = (0..points.len()).collect();
    fn root(part: &mut [usize], mut at: usize) -> usize {
        while part[at] != at {
            part[at] = part[part[at]];
            at = part[at];
        }
        at
    }
    for piece in &pieces {
        let (a, b) = (root(&mut part, piece.a), root(&mut part, piece.b));
        part[a.max(b)] = a.min(b);
    }
    let roots: Vec<usize> = (0..points.len()).map(|at| root(&mut part, at)).collect();
    let mut sizes = vec![0; points.len()];
    roots.iter().for_each(|root| sizes[*root] += 1);
    let largest = (0..points.len()).max_by_key(|root| sizes[*root]).unwrap_or_default();

    let mut renumbered = vec![usize::MAX; points.len()];
    let mut kept = Vec::new();
    for (at, point) in points.into_iter().enumerate() {
        if roots[at] == largest {
            renumbered[at] = kept.len();
            kept.push(point);
        }
    }
    let pieces = pieces.into_iter().filter(|piece| roots[piece.a] == largest);
    Streets {
        points: kept,
        pieces: pieces
            .map(|piece| Piece {
                a: renumbered[piece.a],
                b: renumbered[piece.b],
                ..piece
            })
            .collect(),
    }
}

-- A small order book: what sqlite does all day. README.md has the command that made sqlite.qrec from it.
PRAGMA mmap_size = 67108864;
PRAGMA cache_size = 200;
CREATE TABLE customer(id INTEGER PRIMARY KEY, name TEXT, city TEXT);
CREATE TABLE purchase(id INTEGER PRIMARY KEY, customer INTEGER, item TEXT, price INTEGER);
BEGIN;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400)
INSERT INTO customer SELECT i, 'customer ' || i, 'city ' || (i * 7 % 23) FROM n;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 8000)
INSERT INTO purchase SELECT i, i * 7919 % 400 + 1, 'item ' || (i * 31 % 97), i * 104729 % 1000 FROM n;
COMMIT;
CREATE INDEX purchase_customer ON purchase(customer);
UPDATE purchase SET price = price + 1 WHERE customer % 5 = 0;
DELETE FROM purchase WHERE id % 11 = 0;
SELECT sum(price), city FROM purchase JOIN customer ON customer.id = purchase.customer GROUP BY city;

// Aedes on one port, for everybody, with sessions and queues in a folder: node server.js PORT FOLDER
import { createServer } from 'node:net'
import { Aedes } from 'aedes'
import persistence from 'aedes-persistence-level'
import { Level } from 'level'

const [port, folder] = process.argv.slice(2)
const database = new Level(folder, { valueEncoding: 'binary' })
const broker = await Aedes.createBroker({ persistence: persistence(database) })
createServer(broker.handle).listen(Number(port), '127.0.0.1', () => console.log('serving'))
